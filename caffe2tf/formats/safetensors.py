"""safetensors: `conv1/kernel`, `conv1/bias`, ...

Read it with `safetensors.numpy.load_file(path)`.
"""

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from caffe2tf.errors import ParseError
from caffe2tf.formats import _files


def save(net, path, progress=None):
    tensors = {f"{layer}/{name}": array for layer, made in _files.arrays(net, progress) for name, array in made.items()}
    try:
        save_file(tensors, path, metadata={"format": "caffe2tf", "layout": "keras"})
    except SafetensorError as error:
        raise OSError(str(error)) from None


def load(path):
    weights = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for key in file.keys():  # noqa: SIM118 - not a dictionary
                layer, name = _files.split_key(key)
                weights.setdefault(layer, {})[name] = file.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise ParseError(f"{path}: is not a .safetensors ({str(error).splitlines()[0]})") from None
    return weights
