"""TensorFlow Lite for phones and boards; `--quantize` for 8-bit weights. (loads TensorFlow)

Read it with `tf.lite.Interpreter(model_path=path)`.
"""

import warnings

import tensorflow as tf

from caffe2tf.formats import _reload
from caffe2tf.formats.savedmodel import serving
from caffe2tf.model import to_keras
from caffe2tf.names import input_names


def save(net, path, progress=None, quantize=False):
    """Returns the largest difference between the model and the file read back; `quantize`: dynamic range."""
    model, given = to_keras(net), _reload.example(net)
    serve = serving(model, net)
    # The converter gives values to the variables of TensorFlow's own that it finds, not to those inside a Keras model.
    holder = tf.Module()
    holder.held = [variable.value for variable in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], holder)
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    data = converter.convert()
    with open(path, "wb") as file:
        file.write(data)
    if progress:
        progress(len(data))
    expected = serve(*map(tf.constant, given))
    # Without delegates there is no log line; the interpreter must outlive its runner.
    plain = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the interpreter's move to another package
        interpreter = tf.lite.Interpreter(model_content=data, experimental_op_resolver_type=plain)
    runner = interpreter.get_signature_runner()
    found = runner(**dict(zip(input_names(net).values(), given, strict=True)))
    return _reload.largest_difference(path, _reload.values(expected), [found[name] for name in expected])
