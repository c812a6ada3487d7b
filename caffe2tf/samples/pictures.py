"""Pictures that come with the packages that caffe2tf needs: three photographs, and 1,797 handwritten digits."""

import importlib.metadata
import io
import json
import logging
import os

import numpy as np

from caffe2tf import bundled
from caffe2tf.errors import Caffe2TFError
from caffe2tf.files import replacing as files
from caffe2tf.files.digests import file_digest
from caffe2tf.verification import golden as goldens

MARKER = "caffe2tf.json"  # by which a folder is known as ours
_LICENSE = "LICENSE.txt"
PHOTOGRAPHS = files.Kind(marker=MARKER, files=(*bundled.PHOTOGRAPHS, _LICENSE))
DIGITS = files.Kind(marker=MARKER, files=("[0-9]/[0-9][0-9][0-9][0-9].png", _LICENSE), flushed=False)
_LOG = logging.getLogger("caffe2tf")
_PROJECTS = {"sklearn": "scikit-learn", "matplotlib": "matplotlib"}

_PHOTOGRAPHS_LICENSE = """\
china.jpg         by danielbuechele, CC BY 2.0 (https://creativecommons.org/licenses/by/2.0/)
                  https://www.flickr.com/photos/danielbuechele/6061409035/
flower.jpg        by vultilion, CC BY 2.0 (https://creativecommons.org/licenses/by/2.0/)
                  https://www.flickr.com/photos/vultilion/6056698931/
grace_hopper.jpg  U.S. Navy, in the public domain

The first two come with scikit-learn, the third with matplotlib; none was changed.
"""
_DIGITS_LICENSE = """\
The test set of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (1998), as it comes with
scikit-learn: https://archive.ics.uci.edu/dataset/80, CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/).
Values of 0 to 16 were scaled to 0 to 255; otherwise none was changed.
"""


class SampleError(Caffe2TFError):
    """A sample that is not known, or that cannot be made from what is installed."""


def photographs(path: str, force: bool = True) -> list[str]:
    """Writes the photographs of bundled.PHOTOGRAPHS with their licenses to the folder `path`; returns [path].

    A picture that is not the one for which Caffe's classes are recorded, as another version of its package may bring it, is
    written all the same, and a line about it is logged. Raises SampleError for one that is missing, OutputError.
    """
    files.check(path, force, PHOTOGRAPHS)
    recorded = {p.file: p for p in goldens.load(os.path.join(bundled.home(), "squeezenet")).photographs}
    found: dict[str, bytes] = {}
    for name, (package, _) in bundled.PHOTOGRAPHS.items():
        source = bundled.photograph(name)
        try:
            with open(source, "rb") as file:
                found[name] = file.read()
        except OSError as error:
            raise SampleError(
                f"{source}: cannot be read ({str(error.strerror).lower()}), but comes with {_PROJECTS[package]}; install "
                "that again"
            ) from None
        if file_digest(source) != recorded[name].sha256:
            _LOG.info(
                "%s of %s is not the picture for which Caffe's classes are recorded (its SHA-256 is another); verify "
                "leaves it out",
                name,
                _version(package),
            )
    _write(path, {**found, _LICENSE: _PHOTOGRAPHS_LICENSE.encode()}, "photographs", force, PHOTOGRAPHS)
    return [path]


def digits(path: str, force: bool = True) -> list[str]:
    """Writes scikit-learn's digits, grey PNGs of 8 x 8, white on black, to the folder `path`, in a folder for each of the ten
    classes and numbered as scikit-learn has them; returns [path]. Raises SampleError, OutputError."""
    from PIL import Image
    from sklearn import datasets

    files.check(path, force, DIGITS)
    try:
        data = datasets.load_digits()
        images, labels = np.asarray(data.images), np.asarray(data.target)
    except (OSError, ValueError) as error:
        raise SampleError(f"the digits of {_version('sklearn')} cannot be read ({error}); install that again") from None
    found: dict[str, bytes] = {}
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = io.BytesIO()
        Image.fromarray(np.rint(image * (255 / 16)).astype(np.uint8)).save(file, "PNG")
        found[f"{label}/{index:04d}.png"] = file.getvalue()
    _write(path, {**found, _LICENSE: _DIGITS_LICENSE.encode()}, "digits", force, DIGITS)
    return [path]


def _version(package: str) -> str:
    project = _PROJECTS[package]
    return f"{project} {importlib.metadata.version(project)}"


def _write(path: str, found: dict[str, bytes], sample: str, force: bool, kind: files.Kind) -> None:
    """Writes the folder `path` of files {relative path: content}, whole or not at all."""
    marker = json.dumps({"written_by": f"caffe2tf sample {sample}"}) + "\n"
    with files.replacing(path, force, kind) as temporary:
        for name, content in {**found, kind.marker: marker.encode()}.items():
            target = os.path.join(temporary, *name.split("/"))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as file:
                file.write(content)
