"""How much memory a run of finetune takes at its peak, said before it begins.

Counted from above: what is held at once of pictures, features, weights, momenta, gradients, copies for checkpoints, and what a
step computes, as if TensorFlow gave nothing back before the step's end.
"""

import math
import os
from collections.abc import Sequence

from caffe2tf.files import shards
from caffe2tf.finetuning import batches, features
from caffe2tf.finetuning.plan import Plan
from caffe2tf.finetuning.sets import Sets, is_cached
from caffe2tf.finetuning.settings import Stage
from caffe2tf.net.net import Net

_BASE = 1 << 30  # bytes of Python, TensorFlow and its compiled functions
# Copies of the weights while the results are written, models, their files and what is read back: of all, and of those that the best
# and the last weights differ in. Measured with AlexNet: 7.3 and 6.1.
_RESULTS, _APART = 8, 7
_KEPT = 3  # times what the layers make of a batch: forward, backward, and what they work in


def peak(plans: Sequence[tuple[Plan, Stage]], given: Sets) -> int:
    """Bytes that stages take of the pictures in `given`."""
    pixels = given.decoded.shape[0] * given.picture
    reading = batches.BUFFERED * given.picture  # of each picture of a batch, as bytes and as floats
    held = given.held(pixels) if not all(is_cached(given.run, *one) for one in plans) else 0
    return max(_stage(work, stage, given, 5 * reading) for work, stage in plans) + held + _BASE


def there() -> int | None:
    """The bytes of memory of this machine, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _stage(work: Plan, stage: Stage, given: Sets, reading: int) -> int:
    cached = is_cached(given.run, work, stage)
    whole = _weights(work.net)
    model = _weights(work.top) if cached else whole
    trained = sum(array.nbytes for name in work.trained for array in work.net.arrays[name])
    momenta = trained * (2 if stage.optimizer in ("adam", "adadelta") else 1)
    learning = model + momenta + 4 * trained + (model + momenta)  # gradients four times; a checkpoint is copied first
    step = _KEPT * stage.batch_size * _computed(work.top if cached else work.net)
    step += stage.batch_size * reading if not cached else 0
    kept = 0
    if cached and work.base is not None:
        each = sum(4 * _size(work.top.inputs[blob]) for blob in work.frontier)
        kept = given.held(given.decoded.shape[0] * each)
        step = max(step, whole + features.BATCH * (2 * _computed(work.base) + reading))
        if not kept:  # what is read ahead of the steps, and shards that wait for the disk
            step += batches.BUFFERED * stage.batch_size * each + 3 * shards.SHARD_BYTES
    return max(whole + learning + step, _RESULTS * whole + _APART * trained) + kept


def _weights(net: Net) -> int:
    return sum(array.nbytes for arrays in net.arrays.values() for array in arrays)


def _computed(net: Net) -> int:
    """The bytes of all that the layers make of one picture."""
    return sum(4 * _size(shape) for node in net.nodes for shape in node.shapes)


def _size(shape: Sequence[int | None]) -> int:
    return math.prod(extent or 1 for extent in shape[1:])
