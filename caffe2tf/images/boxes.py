"""What the rows of a detector mean: which of its classes is none, and where in the picture a box lies."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from caffe2tf.net.net import Net

_Size = tuple[int, int]  # (height, width)
Corners = tuple[float, float, float, float]
FORM = {"classes": int, "background": int}  # of a Detector


class Detector(TypedDict):
    """How many classes a detector has, and which of them is nothing at all."""

    classes: int
    background: int


def detector(net: "Net") -> Detector | None:
    """What the rows of `net` mean; None for a net whose output is no list of boxes."""
    if len(net.outputs) != 1:
        return None
    (blob,) = net.outputs
    layer = net.producers[blob, net.last_versions[blob]].layer
    return Detector(classes=layer.p.num_classes, background=layer.p.background_label_id) if layer.detects else None


def in_picture(corners: Sequence[float], resize: _Size | None, crop: _Size | None, size: _Size) -> Corners:
    """(left, top, right, bottom) in pixels of a picture of `size`, which was brought to `resize` and of whose centre `crop` was cut,
    of corners (x1, y1, x2, y2) in parts of what was left. They may lie outside."""
    resized = resize or size
    seen = crop or resized
    x1, y1, x2, y2 = corners

    def place(part: float, axis: int) -> float:
        start = (resized[axis] - seen[axis]) // 2
        return (part * seen[axis] + start) * size[axis] / resized[axis]

    return place(x1, 1), place(y1, 0), place(x2, 1), place(y2, 0)
