"""How much memory a run of finetune takes at its peak, said before it begins.

Counted from above: what is held at once of pictures, features, weights, momenta, gradients, copies for checkpoints, and what a
step computes, as if TensorFlow gave nothing back before the step's end.
"""

import math
import os
from collections.abc import Sequence

from caffe2tf.finetuning.batches import HELD_LIMIT
from caffe2tf.finetuning.data import MEMORY_LIMIT
from caffe2tf.finetuning.plan import Plan
from caffe2tf.finetuning.settings import Stage
from caffe2tf.net.net import Net

_BASE = 1 << 30  # bytes of Python, TensorFlow and its compiled functions
# Copies of the weights while the results are written, models, their files and what is read back: of all, and of those that the best
# and the last weights differ in. Measured with AlexNet: 7.3 and 6.1.
_RESULTS, _APART = 8, 7
_KEPT = 3  # times what the layers make of a batch: forward, backward, and what they work in
_FEATURE_BATCH = 32


def peak(plans: Sequence[tuple[Plan, Stage]], pictures: Sequence[int], picture: int) -> int:
    """Bytes. `pictures`: how many each set holds, training and validation first; `picture`: the bytes of one as it is kept."""
    return (
        max(_stage(work, stage, pictures) for work, stage in plans)
        + sum(_stored(n * picture) for n in pictures)
        + _BASE
    )


def there() -> int | None:
    """The bytes of memory of this machine, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _stored(size: int) -> int:
    """What of an array of `size` bytes is in memory: above the limit it is in a file."""
    return size if size <= MEMORY_LIMIT else 0


def _stage(work: Plan, stage: Stage, pictures: Sequence[int]) -> int:
    cached = work.base is not None and not stage.augment
    whole = _weights(work.net)
    model = _weights(work.top) if cached else whole
    trained = sum(array.nbytes for name in work.trained for array in work.net.arrays[name])
    momenta = trained * (2 if stage.optimizer in ("adam", "adadelta") else 1)
    learning = model + momenta + 3 * trained + (model + momenta)  # gradients thrice; a checkpoint is copied first
    step = _KEPT * stage.batch_size * _computed(work.top if cached else work.net)
    features = 0
    if cached and work.base is not None:
        each = sum(4 * _size(work.top.inputs[blob]) for blob in work.frontier)
        sizes = [_stored(count * each) for count in pictures[:2]]
        features = sum(size * (2 if size <= HELD_LIMIT else 1) for size in sizes)
        step = max(step, whole + 2 * _FEATURE_BATCH * _computed(work.base))
    return max(whole + learning + step, _RESULTS * whole + _APART * trained) + features


def _weights(net: Net) -> int:
    return sum(array.nbytes for arrays in net.arrays.values() for array in arrays)


def _computed(net: Net) -> int:
    """The bytes of all that the layers make of one picture."""
    return sum(4 * _size(shape) for node in net.nodes for shape in node.shapes)


def _size(shape: Sequence[int | None]) -> int:
    return math.prod(extent or 1 for extent in shape[1:])
