"""Who judges a network: a golden set where one fits, else OpenCV, else the reference."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from caffe2tf import formats, loading
from caffe2tf.arrays.layout import Floats
from caffe2tf.errors import Caffe2TFError, NetError
from caffe2tf.keras_model import model
from caffe2tf.net.net import Net
from caffe2tf.verification import exact, feeding, opencv
from caffe2tf.verification import golden as goldens
from caffe2tf.verification.sets import Golden, GoldenError, JudgeAbsent, JudgeError, Original, Path

NAMES = "opencv", "reference"
Heard = tuple[Golden, tuple[str, ...]]  # what a judge says, and notes on why it is this judge


@dataclass(frozen=True)
class Choice:
    """Judges in the order in which they are asked until one can judge; `named`: the first was asked for."""

    names: tuple[str, ...]
    named: bool


def resolve(
    net: Net, given: Golden | Path | None, digests: Mapping[str, Sequence[str]] | None = None
) -> Golden | Choice:
    """What `against` means for `net`: a golden set, or judges. `digests` are of the weights, where the net has none. Raises
    GoldenError."""
    if isinstance(given, Golden):
        return given
    if given in NAMES:
        return Choice(NAMES[NAMES.index(os.fspath(given)) :], True)
    if given == "golden":
        return goldens.choose(net, digests)
    if given is not None:
        return goldens.load(given)
    try:
        return goldens.choose(net, digests)
    except GoldenError:
        return Choice(NAMES, False)


def files(text: Path | None, model: Path | None) -> list[Path] | None:
    """What a judge reads of the files that a network was loaded from: None where the weights are no .caffemodel."""
    if model is None or not _is_caffemodel(os.fspath(model)):
        return None
    return [model] if text is None else [text, model]


def _is_caffemodel(path: str) -> bool:
    suffix = os.path.splitext(path)[1].lstrip(".").lower()
    return suffix == "caffemodel" or suffix not in formats.names()


class Panel:
    """The judges of `net` on the same inputs: `images`, a picture or a folder of them, or noise. They read `original`, the
    .caffemodel and its text where it needs one, in either order; None is `net` itself. `run` computes our blobs, the net where it is
    None."""

    def __init__(
        self,
        net: Net,
        choices: Sequence[Choice],
        images: Path | None,
        original: Path | Sequence[Path] | None,
        yes: bool,
        run: Callable[[Mapping[str, Floats]], dict[str, Floats]] | None = None,
    ) -> None:
        self.net, self.choices, self.yes = net, choices, yes
        self.run = run or (lambda inputs: model.forward(net, inputs))
        self.inputs, self.fed = feeding.inputs(net, images)
        self.files, self.original = Original(), net
        if original is not None:
            self.files, self.original = _original(net, original, self.inputs)
        if any(one.names[0] == "reference" for one in choices):
            exact.refuse_long(self.original, self.inputs, yes)
        self.found: Mapping[str, Floats] = {}
        self.sets: dict[str, Golden] = {}  # by name of the judge, in the order of NAMES once all are heard

    def ask(self) -> dict[Choice, Heard]:
        """What each says. The reference is heard first: its values stand in for those that OpenCV lacks. Raises JudgeError."""
        self.found = self.run(self.inputs)
        heard = {one: self._first(one) for one in sorted(set(self.choices), key=lambda one: one.names, reverse=True)}
        self.sets = {name: self.sets[name] for name in NAMES if name in self.sets}
        return heard

    def _first(self, choice: Choice) -> Heard:
        notes: list[str] = []
        if self.original is self.net and self.net.arrays:
            notes.append(
                "the judge has this network's own weights; `original` names the .caffemodel that they came from"
            )
        for name in choice.names:
            found = self._tried(name)
            if isinstance(found, Golden):
                return found, tuple(notes)
            if choice.named and (isinstance(found, JudgeAbsent) or name == choice.names[-1]):
                raise found
            notes.append(str(found))
        raise JudgeError("; ".join([*notes, f"with Docker, Caffe itself judges: {goldens.DOCKER}"]))

    def _tried(self, name: str) -> Golden | JudgeError:
        try:
            return self._judged(name)
        except JudgeError as error:
            return error

    def _judged(self, name: str) -> Golden:
        if name not in self.sets:
            if name == "reference":
                read = " and ".join(os.path.basename(path) for path in (self.files.text, self.files.weights) if path)
                read = f"{read}, as caffe2tf reads them" if read else "the network itself"
                self.sets[name] = exact.record(self.original, self.inputs, read, self.fed, self.yes)
            else:
                known = dict(self.found)
                if "reference" in self.sets:
                    known |= {blob: one.values.astype("f4") for blob, one in self.sets["reference"].blobs.items()}
                self.sets[name] = opencv.record(self.original, self.inputs, known, self.files, self.fed)
        return self.sets[name]


def _original(net: Net, files: Path | Sequence[Path], inputs: Mapping[str, Floats]) -> tuple[Original, Net]:
    """(the files, the network in them, for inputs of the shapes of `inputs`). Raises GoldenError for files of another network."""
    paths = [os.fspath(files)] if isinstance(files, str | os.PathLike) else [os.fspath(one) for one in files]
    text, weights = loading.told_apart(paths)
    named = " and ".join(paths)
    if weights is None or not _is_caffemodel(weights):
        raise GoldenError(f"{named}: `original` takes a .caffemodel, and its network text where it needs one")
    try:
        read = loading.load(prototxt=text, model=weights)
    except Caffe2TFError as error:
        raise GoldenError(f"`original`: {error}") from None
    other = sorted({*read.weight_shapes, *read.inputs} ^ {*net.weight_shapes, *net.inputs}) or [
        name for name, shapes in net.weight_shapes.items() if read.weight_shapes[name] != shapes
    ]
    other = other or sorted(set(read.blobs) ^ set(net.blobs))
    if other:
        raise GoldenError(
            f"{named}: is the original of another network: {', '.join(other[:5])} {'differs' if len(other) == 1 else 'differ'}"
        )
    try:
        return Original(text, weights), read.reshape({name: array.shape for name, array in inputs.items()})
    except NetError as error:
        raise GoldenError(f"{named}: is the original of another network: {error}") from None
