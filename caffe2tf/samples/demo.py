"""`caffe2tf demo`: everything that the tool promises, with how long each step took, and a page that shows it."""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from caffe2tf import bundled, formats, loading, words
from caffe2tf.classification.seen import Seen
from caffe2tf.errors import OutputError
from caffe2tf.files import replacing as files
from caffe2tf.samples import networks, page, pictures, squeezenet
from caffe2tf.samples.page import Head
from caffe2tf.verification import golden as goldens
from caffe2tf.verification.compare import Report
from caffe2tf.verification.report import conclusion

FOLDER = "caffe2tf-demo"
PAGE = "report.html"
# Of the new head's pictures: digits of 8 x 8 gain nothing from 227 x 227, which takes five times as long.
SIZE = 96


@dataclass(frozen=True)
class Told:
    """How the demonstration speaks: `say` prints a line, `show` a Report, `bars` a title with (class name, probability) pairs;
    `hushed` makes a context in which TensorFlow starts silently."""

    say: Callable[[str], object]
    show: Callable[[Report], object]
    bars: Callable[[str, Sequence[tuple[str, float]]], object]
    hushed: Callable[[], AbstractContextManager[object]]


class _Clock:
    def __init__(self, say: Callable[[str], object]) -> None:
        self._say, self._start = say, time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def __call__(self, words: str) -> None:
        self._say(f"[{self.seconds:5.1f} s] {words}")


def run(told: Told, folder: str = FOLDER, force: bool = False, device: str = "auto") -> bool:
    """Shows AlexNet as `fast` does; then converts and verifies the trained SqueezeNet, says what it sees in three photographs,
    gives it a new head for handwritten digits, and writes all of that as PAGE into `folder`. Returns whether both
    verifications passed. Raises OutputError before the work where the page could
    not be written."""
    target = os.path.join(folder, PAGE)
    if not os.path.lexists(folder):
        files.check(folder, force)
    elif not os.path.isdir(folder):
        raise OutputError(f"{folder}: is a file, and the page goes into a folder of that name; move it away")
    else:
        files.check(target, force)
    step = _Clock(told.say)
    with tempfile.TemporaryDirectory(prefix="caffe2tf-demo-") as place:
        seeded = _alexnet(told, step, place, device)
        trained, seen = _squeezenet(told, step, place, device)
        head = _digits(told, step, place, device)
    shown = page.demonstration(seeded, trained, seen, head, step.seconds)
    os.makedirs(folder, exist_ok=True)
    files.write_text(target, shown, force)
    step(f"done; all of it on one page: {target}")
    return seeded.passed and trained.passed


def fast(told: Told, device: str = "auto") -> bool:
    """Writes, converts and verifies the full-size AlexNet in a temporary folder; returns whether the verification passed."""
    step = _Clock(told.say)
    with tempfile.TemporaryDirectory(prefix="caffe2tf-demo-") as place:
        report = _alexnet(told, step, place, device)
    step("done; the folder is removed")
    return report.passed


def _alexnet(told: Told, step: _Clock, folder: str, device: str) -> Report:
    model, weights = (os.path.join(folder, name) for name in ("bvlc_alexnet.caffemodel", "bvlc_alexnet.npz"))
    step("writing the full-size AlexNet with seeded weights, encoded as in 2013: V1 layers, a training snapshot")
    networks.write(model)
    step(f"  {_size(model)}; reading it, without Caffe and without its network text")
    net = loading.load(None, model)
    parameters = sum(array.size for arrays in net.arrays.values() for array in arrays)
    step(f"  {len(net.nodes)} layers, {parameters:,} parameters; converting to Keras's layout as .npz")
    formats.save(net, weights)
    step(f"  {_size(weights)}; running it in Keras on six images for which Caffe 1.0's own results are known")
    converted = loading.load(bundled.alexnet_text(), weights)
    with told.hushed():
        from caffe2tf.verification.verify import verify

        report = verify(converted, os.path.join(bundled.home(), "alexnet"), device=device)
    told.say("")
    told.show(report)
    told.say("")
    return report


def _squeezenet(told: Told, step: _Clock, folder: str, device: str) -> tuple[Report, list[Seen]]:
    """(the verification, what the converted model sees in the photographs of the golden set that are there)."""
    from caffe2tf.classification.classifier import classify
    from caffe2tf.verification.verify import verify

    model, whole = (os.path.join(folder, name) for name in ("squeezenet_v1.0.caffemodel", "squeezenet.keras"))
    step("writing SqueezeNet v1.0, trained on ImageNet, which comes with the package")
    squeezenet.write(model)
    net = loading.load(model)
    step(f"  {_size(model)}, byte for byte as Caffe saved it; converting to a Keras model of stock layers")
    with told.hushed():
        formats.save(net, whole)
    step(f"  {_size(whole)}; verifying every layer, and the classes of photographs from their JPEG files")
    golden = goldens.load(os.path.join(bundled.home(), "squeezenet"))
    there = goldens.at_hand(golden.photographs)
    with told.hushed():
        report = verify(net, golden, device=device)
        seen = classify(whole, list(there.values()), device=device) if there else []
    told.say("")
    for one in seen:
        told.bars(os.path.basename(one.file), [(name, share) for _, name, share in one.top])
    told.say("")
    told.say(conclusion(report))
    told.say("")
    return report, seen


def _digits(told: Told, step: _Clock, folder: str, device: str) -> Head:
    with told.hushed():
        from caffe2tf.finetuning import training
        from caffe2tf.finetuning.finetune import finetune

    data, out = os.path.join(folder, "digits"), os.path.join(folder, "digits-head")
    step("training a new head of it on scikit-learn's handwritten digits, four fifths of them")
    pictures.digits(data)

    def say(line: str) -> None:
        if line.startswith("epoch") and int(line.split()[1]) % 5 == 0:
            step(f"  {line}")

    try:
        accuracy = finetune(
            os.path.join(folder, "squeezenet_v1.0.caffemodel"),
            layers="conv_final",
            data=data,
            resize=SIZE,
            crop="none",
            input_shape={None: (1, 3, SIZE, SIZE)},
            epochs=20,
            out=out,
            device=device,
            say=say,
            hushed=told.hushed,
        )
    except training.Stopped as stopped:
        signal.raise_signal(stopped.number)  # the folder where it could go on goes away, so it ends as elsewhere
        raise
    step(f"  {accuracy:.1%} of the other fifth are recognised")

    def drawn(name: str) -> bytes:
        with open(os.path.join(out, f"{name}.png"), "rb") as file:
            return file.read()

    return Head(accuracy or 0.0, drawn("examples"), drawn("curves"), drawn("confusion"))


def _size(path: str) -> str:
    return words.size(files.size(path))
