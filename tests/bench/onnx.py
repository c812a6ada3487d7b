"""Which golden networks are said in ONNX, and how far onnxruntime's outputs are from Keras's.

Run as `python -m tests.bench.onnx [NAME ...]`, all networks or those with one of these names. Prints every network that ONNX lacks
an operation for, with the reason, then how many are said and the largest difference among them, relative to the largest value.
Exits with 1 where one differs by more than 1e-5.
"""

import os
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from caffe2tf import formats
from caffe2tf.arrays.layout import keras_order
from caffe2tf.errors import OutputError
from caffe2tf.keras_model.model import to_keras
from tests.helpers import cases, inputs_of, is_model, load


def difference(path: os.PathLike[str], folder: str) -> float | None:
    """The largest difference between the file's outputs and the Keras model's, for Caffe's own inputs, over the largest value; None
    where the network is no model. Raises OutputError where it cannot be said."""
    import onnxruntime

    net = load(path)
    if not is_model(net):
        return None
    file = os.path.join(folder, "x.onnx")
    formats.save(net, file)
    model, given = to_keras(net), inputs_of(net, path)
    arrays = {
        name: np.ascontiguousarray(np.asarray(array, np.float32).transpose(keras_order(np.ndim(array))))
        for name, array in given.items()
    }
    values = [arrays[name] for name in net.inputs]
    expected = model(values if len(values) > 1 else values[0], training=False)
    expected = expected if isinstance(expected, (list, tuple)) else [expected]
    session = onnxruntime.InferenceSession(file)
    names = [blob for blob in net.outputs if not net.is_constant(blob)]
    largest = 0.0
    for blob, wanted, found in zip(names, expected, session.run(names, arrays), strict=True):
        a, b = np.asarray(wanted), np.asarray(found)
        if a.shape != b.shape or not np.array_equal(np.isfinite(a), np.isfinite(b)):
            raise OutputError(f"'{blob}' is {b.shape} or has other values that are not finite; Keras gives {a.shape}")
        finite = np.isfinite(a)
        largest = max(largest, float(np.abs(a - b)[finite].max(initial=0) / (np.abs(a[finite]).max(initial=0) or 1)))
    return largest


def main(chosen: list[str]) -> int:
    said, lacking, worst = 0, 0, ("", 0.0)
    for case in cases("layers", "forks"):
        (path,) = case.values
        if chosen and path.name not in chosen:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = difference(path, folder)
            except OutputError as error:
                lacking += 1
                print(f"{path.name}: {str(error).split('x.onnx: ')[-1]}", flush=True)
                continue
        if found is not None:
            said += 1
            worst = max(worst, (path.name, found), key=lambda one: one[1])
            if found > 1e-5:
                print(f"{path.name}: differs by {found:.2g}", flush=True)
    print(f"{said} said in ONNX, the largest difference {worst[1]:.2g} ({worst[0]}); {lacking} not")
    return int(worst[1] > 1e-5)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
