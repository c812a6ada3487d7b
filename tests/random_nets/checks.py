"""What must hold of any network, whatever it computes, and of each blob where a second opinion is at hand."""

import importlib
import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import caffe2tf
from caffe2tf.arrays.layout import caffe_order, keras_order
from tests.random_nets.comparing import Blobs, differing
from tests.random_nets.sample import FORKS, Sample

# Formats that can be read back; each net takes its turn at one.
FORMATS = ("npy", "npz", "h5", "safetensors", "caffemodel")


@dataclass(frozen=True)
class Problem:
    """`check`: which one failed; `words`: how; `kind`: equal for problems that look alike."""

    check: str
    kind: str
    words: str

    def also(self, sample: Sample, caffe: Blobs | str | None = None) -> bool:
        """Whether another net has a problem that looks like this one."""
        return any((other.check, other.kind) == (self.check, self.kind) for other in check(sample, caffe))


class Different(Exception):
    """Two results of one net that must be the same are not."""


def load(sample: Sample, folder: Path) -> Any:
    """The Net of `sample`, by way of files in `folder`."""
    sample.write(folder)
    return caffe2tf.load(str(folder / "deploy.prototxt"), str(folder / "net.caffemodel"))


def run(sample: Sample) -> Blobs:
    """Every blob by `forward`."""
    with tempfile.TemporaryDirectory() as folder:
        blobs: Blobs = caffe2tf.forward(load(sample, Path(folder)), sample.inputs)
        return blobs


def has_reference() -> bool:
    return importlib.util.find_spec("caffe2tf.reference") is not None


def reference(sample: Sample) -> Blobs:
    """Every blob by the float64 reference."""
    with tempfile.TemporaryDirectory() as folder:
        module = importlib.import_module("caffe2tf.reference")
        blobs: Blobs = module.compute(load(sample, Path(folder)), sample.inputs)
        return blobs


def check(sample: Sample, caffe: Blobs | str | None = None) -> list[Problem]:
    """The problems of one net; `caffe`: what real Caffe gives, its blobs or its refusal, where it was asked."""
    if isinstance(caffe, str):
        return [Problem("caffe refuses", caffe, caffe)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            net = load(sample, Path(folder))
            blobs = caffe2tf.forward(net, sample.inputs)
        except Exception as error:
            return [_problem("forward", error)]
        one = _One(sample, net, blobs, Path(folder), caffe)
        return [problem for name, work in one.checks() for problem in _problems(name, work)]


def _problems(name: str, work: Callable[[], None]) -> list[Problem]:
    try:
        work()
    except Exception as error:
        return [_problem(name, error)]
    return []


def _problem(name: str, error: Exception) -> Problem:
    words = str(error)
    plain = "".join(c for c in words.split(":", 1)[-1] if c.isalpha() or c == " ")[:60]
    kind = "" if isinstance(error, Different) else f"{type(error).__name__} {plain}"
    return Problem(name, kind, f"{type(error).__name__}: {words}")


@dataclass(frozen=True)
class _One:
    sample: Sample
    net: Any
    blobs: Blobs
    folder: Path
    caffe: Blobs | None

    def checks(self) -> Iterator[tuple[str, Callable[[], None]]]:
        if self.caffe is not None:
            yield "real Caffe", self.as_caffe
        if has_reference():
            yield "float64 reference", self.as_reference
        yield "to_keras", self.as_model
        yield "round trip", self.round_trip
        yield "fold", self.folded
        yield "one by one", self.one_by_one

    def same(self, wanted: Blobs, found: Blobs) -> None:
        """Raises Different where a blob of both is not the same."""
        second = reference if has_reference() else run
        wrong = differing(self.sample, {name: wanted[name] for name in wanted if name in found}, found, second)
        if wrong:
            raise Different(", ".join(f"'{name}' by {error:.2g}" for name, error in wrong.items()))

    def as_caffe(self) -> None:
        """Every blob that both have; Caffe's own rounding is told apart by the reference, where that sides with ours."""
        assert self.caffe is not None
        wrong = differing(self.sample, {n: a for n, a in self.caffe.items() if n in self.blobs}, self.blobs, run)
        if wrong and has_reference():
            exact = reference(self.sample)
            wrong = {
                name: error
                for name, error in wrong.items()
                if differing(self.sample, {name: exact[name]}, self.blobs, reference)
                or not differing(self.sample, {name: exact[name]}, self.caffe, reference)
            }
        if wrong:
            raise Different(", ".join(f"'{name}' by {error:.2g}" for name, error in wrong.items()))

    def as_reference(self) -> None:
        """Every blob up to the first with a value whose square float32 does not hold (MAX of a window outside is -FLT_MAX):
        what is made of that depends on the order of sums."""
        exact, within = reference(self.sample), {}
        for name, array in exact.items():
            within[name] = array
            if np.abs(array[np.isfinite(array)]).max(initial=0) > 1e18:
                break
        self.same(within, self.blobs)

    def as_model(self) -> None:
        """The Keras model, called as a user calls it, gives what `forward` gives."""
        varying = [blob for blob in self.net.outputs if not self.net.is_constant(blob)]
        if not self.net.inputs or not varying:
            return
        net = self.net
        if any(array.shape != net.inputs[name] for name, array in self.sample.inputs.items()):
            net = net.reshape({name: array.shape for name, array in self.sample.inputs.items()})
        model = caffe2tf.to_keras(net)
        given = [self.sample.inputs[name] for name in net.inputs]
        values = [np.ascontiguousarray(array.transpose(keras_order(array.ndim))) for array in given]
        found = model(values if len(values) > 1 else values[0], training=False)
        found = found if isinstance(found, (list, tuple)) else [found]
        arrays = [np.asarray(value) for value in found]
        self.same(
            {blob: self.blobs[blob] for blob in varying},
            {b: a.transpose(caffe_order(a.ndim)) for b, a in zip(varying, arrays, strict=True)},
        )

    def round_trip(self) -> None:
        """Weights, written and read back in the format whose turn it is, are the same to the bit."""
        kind = FORMATS[self.sample.seed % len(FORMATS)]
        path, text = str(self.folder / f"again.{kind}"), str(self.folder / "deploy.prototxt")
        caffe2tf.save(self.net, path)
        again = caffe2tf.load(text, path)
        wanted = {name: dict(arrays) for name, arrays in self.net.weights.items()}
        found = {name: dict(arrays) for name, arrays in again.weights.items()}
        _same_weights(kind, wanted, found)
        if kind == "caffemodel":
            alone = caffe2tf.load(None, path)
            _same_weights("caffemodel alone", wanted, {name: dict(arrays) for name, arrays in alone.weights.items()})
            if alone.blobs != self.net.blobs:
                raise Different(f"a caffemodel alone has blobs {alone.blobs}; the network {self.net.blobs}")

    def folded(self) -> None:
        net, what = caffe2tf.fold(self.net)
        if not what.convolutions:
            return
        outputs = {blob: self.blobs[blob] for blob in self.net.outputs}
        self.same(outputs, caffe2tf.forward(net, self.sample.inputs))

    def one_by_one(self) -> None:
        """The last item alone gives the last rows, where by its own word no layer uses axis 0 and Caffe takes the shape."""
        counts = {array.shape[:1] for array in self.sample.inputs.values()}
        if len(counts) != 1 or counts in ({()}, {(1,)}) or any(node.layer.fixes_batch() for node in self.net.nodes):
            return
        # Statistics of the batch are not those of one item.
        if any("use_global_stats: false" in str(layer) for layer in self.sample.kept):
            return
        inputs = {name: array[-1:] for name, array in self.sample.inputs.items()}
        (count,) = counts.pop()
        try:
            net = self.net.reshape({name: array.shape for name, array in inputs.items()})
        except caffe2tf.Caffe2TFError:
            return
        rows = caffe2tf.forward(net, inputs)
        both = [
            n for n, a in self.blobs.items() if a.shape[:1] == (count,) and a.ndim == rows[n].ndim and len(rows[n]) == 1
        ]
        whole = {name: np.concatenate([self.blobs[name][:-1], rows[name]]) for name in both}
        self.same({name: self.blobs[name] for name in both}, whole)


def _same_weights(kind: str, wanted: Mapping[str, Blobs], found: Mapping[str, Blobs]) -> None:
    flat, again = ({(n, k): a for n, arrays in w.items() for k, a in arrays.items()} for w in (wanted, found))
    if flat.keys() != again.keys():
        raise Different(f"{kind}: weights {sorted(again)}; the network has {sorted(flat)}")
    for key, array in flat.items():
        if array.shape != again[key].shape or not np.array_equal(array, again[key], equal_nan=True):
            raise Different(f"{kind}: weights {key} differ")


def caffe_takes(sample: Sample) -> bool:
    """Whether Caffe 1.0 has every type of the net."""
    return not sample.types & FORKS
