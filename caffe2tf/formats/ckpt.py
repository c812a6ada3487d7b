"""TensorFlow checkpoint by names: `conv1/weights`, `conv1/biases`, ... (loads TensorFlow)

`OUT.ckpt` is the prefix of `OUT.ckpt.index` and its data files. Read it with `tf.train.load_checkpoint(prefix)` or
restore it with a TF1 `Saver`.
"""

import os

import tensorflow as tf

from caffe2tf.errors import OutputError
from caffe2tf.formats import _files


def save(net, path, progress=None):
    if not net.arrays:
        raise OutputError("the network has no layer with weights, which a checkpoint is made of")
    # One shard per layer, then merged: SaveV2 takes all its tensors at once and would hold the whole network.
    shards = []
    for layer, made in _files.arrays(net, progress):
        shards.append(f"{path}_{len(shards)}")
        names = [f"{layer}/{_files.TENSORFLOW_NAMES[name]}" for name in made]
        tf.raw_ops.SaveV2(
            prefix=shards[-1],
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[_tensor(array) for array in made.values()],
        )
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=shards, destination_prefix=path, delete_old_dirs=False)
    for shard in shards:
        for suffix in (".index", ".data-00000-of-00001"):
            if os.path.exists(shard + suffix):
                os.unlink(shard + suffix)


def _tensor(array):
    """`array` as a tensor on its own memory: `tf.constant` would copy a large one twice."""
    owned = array if array.flags.writeable else array.copy()
    return tf.experimental.dlpack.from_dlpack(owned.__dlpack__())
