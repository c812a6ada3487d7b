"""Everything that `caffe2tf sample` writes: networks and pictures to try all commands on, without a download."""

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass

from caffe2tf import bundled
from caffe2tf.files import replacing as files
from caffe2tf.samples import lenet, networks, pictures, squeezenet
from caffe2tf.samples.pictures import SampleError

Progress = Callable[[int], object]
Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Sample:
    """`write(place, force, progress)` writes it, calling `progress` with bytes done, and returns the paths; `place` is where it
    goes by default, `size` about its bytes."""

    words: str
    place: str
    size: int
    write: Callable[[str, bool, Progress | None], list[str]]


def _alexnet(place: str, force: bool, progress: Progress | None) -> list[str]:
    networks.write(place, force, progress)
    return [place]


def _at_once(write: Callable[[str, bool], list[str]]) -> Callable[[str, bool, Progress | None], list[str]]:
    """`write`, which takes less than a second, as one that tells its progress."""

    def written(place: str, force: bool, progress: Progress | None) -> list[str]:
        paths = write(place, force)
        if progress:
            progress(sum(map(files.size, paths)))
        return paths

    return written


SAMPLES = {
    "alexnet": Sample(
        f"AlexNet, full size: {bundled.RANDOM}",
        "bvlc_alexnet.caffemodel",
        networks.BYTES,
        _alexnet,
    ),
    "squeezenet": Sample(
        "SqueezeNet v1.0, trained on ImageNet",
        "squeezenet_v1.0.caffemodel",
        squeezenet.BYTES,
        _at_once(squeezenet.write),
    ),
    "lenet": Sample(
        f"LeNet, a training snapshot: {bundled.RANDOM}",
        "lenet.caffemodel",
        lenet.BYTES,
        _at_once(lenet.write),
    ),
    "photographs": Sample(
        "three photographs, for which Caffe's classes are recorded",
        "photographs",
        401_000,
        _at_once(pictures.photographs),
    ),
    "digits": Sample("1,797 handwritten digits, a folder for each class", "digits", 220_700, _at_once(pictures.digits)),
}


def sample(name: str = "alexnet", place: Path | None = None, force: bool = False) -> list[str]:
    """Writes the sample `name`, one of SAMPLES, to `place`, a file for a network and a folder for pictures, by default in this
    folder under its own name; returns the paths. `force` replaces what caffe2tf wrote there. Raises SampleError, OutputError.
    """
    known = find(name)
    return known.write(known.place if place is None else os.fspath(place), force, None)


def find(name: str) -> Sample:
    """The Sample of that name. Raises SampleError with the nearest ones."""
    if name not in SAMPLES:
        near = difflib.get_close_matches(name.lower(), SAMPLES, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise SampleError(f"no sample '{name}'; {hint}takes one of {', '.join(SAMPLES)}")
    return SAMPLES[name]


def meant(file: str) -> str:
    """The name of the sample for who names a file alone: the one that has this name by default, or whose own name it bears;
    else alexnet."""
    name = os.path.basename(os.path.normpath(file))
    for key, one in SAMPLES.items():
        if name == one.place or name.partition(".")[0] == key:
            return key
    return "alexnet"
