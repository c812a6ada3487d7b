"""Where and how precisely a model runs, on whichever backend Keras has."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from caffe2tf import spent
from caffe2tf.errors import Caffe2TFError

# Tolerances on the relative L2 error of a blob: float32 sums in another order differ by a few 1e-7 a layer; TF32 rounds
# factors to 10 bits and half precision rounds every value to 10 bits (2^-11 = 5e-4), over some twenty layers.
TOLERANCES = {"float32": 1e-5, "tf32": 1e-2, "mixed_float16": 2e-2}
# bfloat16 rounds to 7 bits: good enough to train with, too coarse to prove anything.
PRECISIONS = (*TOLERANCES, "mixed_bfloat16")


class DeviceError(Caffe2TFError):
    """A device or a precision that this machine does not have."""


def gpus() -> list[str]:
    """The names of the GPUs that the backend sees."""
    name = backend()
    if name == "tensorflow":
        tf = importlib.import_module("tensorflow")
        return [_gpu_name(tf, device) for device in tf.config.list_physical_devices("GPU")]
    if name == "torch":
        cuda = importlib.import_module("torch").cuda
        return [cuda.get_device_name(i) for i in range(cuda.device_count())] if cuda.is_available() else []
    if name == "jax":
        return [device.device_kind for device in importlib.import_module("jax").devices() if device.platform != "cpu"]
    return []


def _gpu_name(tf: Any, device: Any) -> str:
    return str(tf.config.experimental.get_device_details(device).get("device_name", device.name))


def foreseen() -> str:
    """The backend that Keras has or, where it is not loaded yet, KERAS_BACKEND gives it."""
    loaded = sys.modules.get("keras")
    return str(loaded.backend.backend()) if loaded else os.environ.get("KERAS_BACKEND", "tensorflow")


def library(name: str) -> str:
    """The backend `name` for people."""
    return {"jax": "JAX", "torch": "PyTorch"}.get(name, "TensorFlow")


def backend() -> str:
    """The name of Keras's backend: tensorflow, jax or torch."""
    with spent.on(_PHASE):
        import keras

    return str(keras.backend.backend())


_PHASE = library(foreseen())


def choose(device: str = "auto") -> tuple[str, str]:
    """(Keras's device string, name for people) of "auto", "cpu", "gpu" or "gpu:N". Raises DeviceError."""
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "gpu") or (number and (kind != "gpu" or not number.isdigit())):
        raise DeviceError(f"no device '{device}'; takes auto, cpu, gpu or gpu:N")
    found = gpus() if kind != "cpu" else []
    if kind == "cpu" or (kind == "auto" and not found):
        return "cpu", "cpu"  # of a "cpu:0" PyTorch makes copies that are no variables any more
    index = int(number or 0)
    if index >= len(found):
        has = f"{len(found)} GPUs" if found else "no GPU"
        raise DeviceError(f"`device` {device}: Keras's {backend()} backend sees {has} here; cpu runs everywhere")
    return f"gpu:{index}", f"gpu:{index} {found[index]}"


@contextlib.contextmanager
def running(device: str = "auto", precision: str = "float32") -> Iterator[dict[str, str]]:
    """Runs the block on `device` in `precision`; gives a description {device, precision, backend}.

    TF32 is off unless `precision` is "tf32", and as it was afterwards. Raises DeviceError.
    """
    with spent.on(_PHASE):
        import keras

        where, name = choose(device)
    if precision == "tf32" and where.startswith("cpu"):
        raise DeviceError("`precision` tf32 needs a GPU that has it; this runs on the cpu")
    with computing_in(precision), keras.device(where):
        yield {"device": name, "precision": precision, "backend": backend()}


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Keras's dtype policy and TF32 for the block, as they were afterwards. Raises DeviceError."""
    import keras

    if precision not in PRECISIONS:
        raise DeviceError(f"no precision '{precision}'; takes {', '.join(PRECISIONS)}")
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision if precision.startswith("mixed_") else "float32")
    try:
        with _tf32(precision == "tf32"):
            yield
    finally:
        keras.config.set_dtype_policy(policy)


@contextlib.contextmanager
def _tf32(on: bool) -> Iterator[None]:
    name = backend()
    if name == "tensorflow":
        config = importlib.import_module("tensorflow").config.experimental
        before = config.tensor_float_32_execution_enabled()
        config.enable_tensor_float_32_execution(on)
        try:
            yield
        finally:
            config.enable_tensor_float_32_execution(before)
    elif name == "torch":
        backends = importlib.import_module("torch").backends
        before = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32
        backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = on
        try:
            yield
        finally:
            backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = before
    elif name == "jax":
        with importlib.import_module("jax").default_matmul_precision("tensorfloat32" if on else "highest"):
            yield
    else:
        yield
