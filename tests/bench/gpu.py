"""Everything that a GPU shall do for us, on the one that is here; on a processor the same with smaller batches.

    KERAS_BACKEND=tensorflow|jax|torch python -m tests.bench.gpu [--quick] [--device gpu:N] [--batches 1,16,64,256]

It needs caffe2tf, Keras and a backend, nothing else, and prints Markdown: AlexNet and SqueezeNet verified layer by layer in every
precision; the forward pass in pictures a second, with XLA and without, beside the same architecture as keras.applications or a
tutorial has it, and beside the limit, which a large product of matrices and a large copy of the same run give; a training step; how
many pictures a second are decoded for it. Without XLA, JAX runs operation by operation; PyTorch has no XLA.
"""

import argparse
import functools
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import caffe2tf
from caffe2tf.classification import classifier as classifying
from caffe2tf.keras_model import device as devices
from caffe2tf.net.net import Net
from tests.bench import limits, nets, tables

XLA = {"tensorflow": (False, True), "jax": (False, True), "torch": (False,)}
WIDTH = {"float32": 4, "tf32": 4, "mixed_float16": 2}


def runs(model: Any, xla: bool) -> Callable[[Any], Any]:
    """`model` for inference, compiled by XLA or not."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda x: model(x, training=False), jit_compile=xla, autograph=False)
    if backend == "jax" and xla:
        import jax

        state = [
            [variable.value for variable in part] for part in (model.trainable_variables, model.non_trainable_variables)
        ]
        return functools.partial(jax.jit(lambda a, b, x: model.stateless_call(a, b, x, training=False)[0]), *state)
    if backend == "torch":
        import torch

        return torch.no_grad()(lambda x: model(x, training=False))
    return lambda x: model(x, training=False)


def tried(work: Callable[[], str]) -> str:
    """What `work` says, or the name of the error that it ends with: a peer may lack an operation, a card memory."""
    try:
        return work()
    except Exception as error:
        return type(error).__name__


def verified(networks: dict[str, Net], device: str, precisions: Sequence[str]) -> None:
    rows = []
    for name, net in networks.items():
        for precision in precisions:
            report = caffe2tf.verify(net, against="golden", device=device, precision=precision)
            largest = max(check.chained.l2 for check in report.layers)
            count = sum(check.passed for check in report.layers)
            verdict = "PASS" if report.passed else f"FAIL, first {report.first_wrong}"
            rows.append((name, precision, f"{count} of {len(report.layers)}", f"{largest:.1e}", verdict))
    print(tables.markdown(("verified", "precision", "blobs", "largest relative L2 error", "verdict"), rows), flush=True)


def noise(net: Net, batch: int) -> Any:
    """So many pictures of the network's size, channels last, as it takes them."""
    _, channels, height, width = next(iter(net.inputs.values()))
    return np.random.default_rng(0).uniform(-120, 130, (batch, height, width, channels)).astype(np.float32)


def rates(model: Any, x: Any, given: argparse.Namespace, alone: bool) -> list[str]:
    """Pictures a second, without XLA and with it, where the backend has it and it is not to be left `alone`."""

    def rate(xla: bool) -> str:
        run = runs(model, xla)
        return f"{len(x) / limits.best(lambda: run(x), given.seconds):.4g}"

    return ["-" if xla and alone else tried(lambda xla=xla: rate(xla)) for xla in XLA[keras.backend.backend()]]


def forward(networks: dict[str, Net], precision: str, batches: Sequence[int], given: argparse.Namespace) -> None:
    """Every network, ours and its peer, and ours with everything folded that can be."""
    on_gpu, rows = given.running["device"] != "cpu", list[Sequence[object]]()
    dtype = "float16" if precision == "mixed_float16" else "float32"
    operations = limits.flops(dtype, 8192 if on_gpu else 1024 if given.quick else 2048, given.seconds)
    moved = limits.bandwidth(1024 if on_gpu else 128, given.seconds)
    print(
        f"\n{precision}: {operations / 1e12:.3g} TFLOP/s in a product, {moved / 1e9:.3g} GB/s in a copy\n", flush=True
    )
    for name, net in networks.items():
        models, folded = {name: caffe2tf.to_keras(net)}, caffe2tf.fold(net)[0]
        if len(folded.nodes) < len(net.nodes):
            models[f"{name}, folded"] = caffe2tf.to_keras(folded)
        peer, alone = nets.peer(name), given.quick and name != "SqueezeNet"
        for batch in batches:
            most = batch / limits.least(net, batch, operations, moved, WIDTH[precision])
            x = keras.ops.convert_to_tensor(noise(net, batch))
            others = rates(peer, x, given, given.quick)
            for kind, model in models.items():
                found = rates(model, x, given, alone)
                share = max([float(text) for text in found if text[0].isdigit()], default=0) / most
                rows.append((kind, batch, *found, *others, f"{most:.4g}", f"{share:.0%}"))
    titles = ["plain", "XLA"][: len(XLA[keras.backend.backend()])]
    columns = ["pictures a second", "batch", *titles, *(f"peer, {title}" for title in titles), "limit", "share of it"]
    print(tables.markdown(columns, rows), flush=True)


def steps(networks: dict[str, Net], batch: int, given: argparse.Namespace) -> None:
    """Milliseconds of a step of SGD on all layers."""
    kinds, rows = XLA[keras.backend.backend()][: 1 if given.quick else 2], []

    def step(model: Any, x: Any, xla: bool) -> str:
        y = np.zeros((batch, *model.output_shape[1:-1]), np.int32)
        model.compile(keras.optimizers.SGD(1e-6), "sparse_categorical_crossentropy", jit_compile=xla)
        once = limits.best(lambda: keras.ops.convert_to_tensor(model.train_on_batch(x, y)), given.seconds)
        return f"{1000 * once:.4g}"

    for name, net in networks.items():
        models = caffe2tf.to_keras(net), nets.peer(name)
        x = noise(net, batch)
        cells = [tried(lambda model=model, xla=xla, x=x: step(model, x, xla)) for model in models for xla in kinds]
        rows.append((name, batch, *cells))
    titles = ["plain", "XLA"][: len(kinds)]
    columns = ["a step, ms", "batch", *titles, *(f"peer, {title}" for title in titles)]
    print("\n" + tables.markdown(columns, rows), flush=True)


def pipeline(net: Net, folder: str, count: int) -> None:
    """Pictures a second from JPEG files to batches of the network's input, by all threads."""
    places = caffe2tf.sample("photographs", os.path.join(folder, "photographs"))
    photographs = [os.path.join(top, file) for place in places for top, _, files in os.walk(place) for file in files]
    jpegs = sorted(path for path in photographs if path.endswith(".jpg"))
    classifier = classifying.load(net)
    idle = replace(classifier, run=lambda images: np.full((len(images), 1000), 1e-3))
    many = (jpegs * count)[:count]

    def work() -> Any:
        return keras.ops.convert_to_tensor([float(len(list(idle(many))))])

    print(
        f"\ninput: {count / limits.best(work, 0.1):,.4g} JPEG files a second of {len(jpegs)}, decoded, resized and cropped"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batches", help="1,16,64,256 on a GPU, 1,16 on a processor")
    parser.add_argument(
        "--quick", action="store_true", help="half a minute: one picture at a time, XLA for one network"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, devices.running(given.device) as given.running:
        on_gpu, backend = given.running["device"] != "cpu", keras.backend.backend()
        usual = "1" if given.quick else "1,16,64,256" if on_gpu else "1,16"
        batches = [int(batch) for batch in (given.batches or usual).split(",")]
        given.seconds = 0.05 if given.quick else 1.0
        precisions = ("float32", "tf32", "mixed_float16") if on_gpu else ("float32", "mixed_float16")
        packages = tables.versions("caffe2tf", "keras", backend)
        where = given.running["device"] if on_gpu else tables.processor()
        print(f"{where}; {packages}; {tables.today()}\n", flush=True)
        networks = {name: nets.ours(name, folder) for name in nets.NAMES}
        proven = {name: networks[name] for name in nets.NAMES[1 if given.quick else 0 : 2]}
        verified(proven, given.device, precisions)
        for precision in precisions if on_gpu else ("float32",):
            with devices.computing_in(precision):
                forward(networks, precision, batches, given)
        steps(proven, 64 if on_gpu else 4 if given.quick else 16, given)
        pipeline(networks["SqueezeNet"], folder, 16 if given.quick else 512)


if __name__ == "__main__":
    main()
