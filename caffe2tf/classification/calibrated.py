"""How often a network that was calibrated with pictures is right about them, in 8 bits and in float32."""

import os
from collections.abc import Sequence
from pathlib import PurePath

from caffe2tf.classification import labels as labelling
from caffe2tf.formats._calibration import Comparison


def accuracy(seen: Comparison, folder: str | os.PathLike[str], names: Sequence[str] = ()) -> str:
    """`right: 50 of 60 in 8 bits, 52 in float32`; nothing where the pictures of `folder` are not in folders, one for each class, or the
    network has no classes. `names`: as labels.classes takes them. Raises LabelError for a folder that is named as no class."""
    places = [PurePath(path).relative_to(folder).parts for path in seen.pictures]
    if not seen.top or min(map(len, places)) < 2:
        return ""
    truth = labelling.numbers([parts[0] for parts in places], *labelling.classes(seen.classes, names))
    rough, exact = (sum(a == b for a, b in zip(truth, top, strict=True)) for top in (seen.top, seen.float_top))
    return f"right: {rough} of {len(truth)} in 8 bits, {exact} in float32"
