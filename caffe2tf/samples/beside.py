"""Where the network text of a sample goes: beside its model, under the same name."""

import os

from caffe2tf.errors import OutputError
from caffe2tf.files import replacing as files


def text(path: str) -> str:
    """`net.prototxt` for `net.caffemodel`. Raises OutputError for a model that would have that name itself."""
    stem, suffix = os.path.splitext(path)
    if suffix.lower() == ".prototxt":
        raise OutputError(f"{path}: the network text gets that name; name the model, {stem}.caffemodel")
    return f"{stem if suffix.lower() == '.caffemodel' else path}.prototxt"


def write(path: str, model: bytes, source: str, force: bool) -> list[str]:
    """Writes `model` to `path` and the network text `source`, a file, beside it; returns both paths. Raises OutputError
    before anything is written where one of the two could not be."""
    places = [path, text(path)]
    for place in places:
        files.check(place, force)
    with open(source, "rb") as file:
        for place, data in zip(places, (model, file.read()), strict=True):
            files.write_bytes(place, data, force)
    return places
