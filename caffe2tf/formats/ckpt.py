"""TensorFlow checkpoint by names: `conv1/weights`, `conv1/biases`, ... (loads TensorFlow)

`OUT.ckpt` is the prefix of `OUT.ckpt.index` and its data files. Read it with `tf.train.load_checkpoint(prefix)` or
restore it with a TF1 `Saver`.
"""

import os
from collections.abc import Collection
from typing import Any

import tensorflow as tf

from caffe2tf.arrays.layout import Array
from caffe2tf.errors import OutputError
from caffe2tf.formats import _files
from caffe2tf.formats._files import Progress
from caffe2tf.net.net import Net

KIND = _files.PARTS


def save(net: Net, path: str, progress: Progress | None = None, taken: Collection[int] = ()) -> None:
    """`taken`: counts of shards that the checkpoint must not have, where it can: the names of its files say the count, and a
    checkpoint whose data files have names of their own is replaced in one step, that of its index."""
    if not net.arrays:
        raise OutputError("the network has no layer with weights, which a checkpoint is made of")
    # One shard per layer, then merged: SaveV2 takes all its tensors at once and would hold the whole network.
    count = len(net.arrays)
    sizes = {"layers": count, "arrays": sum(map(len, net.weight_shapes.values())), "joined": count - 1}
    plan = next((plan for plan, size in sizes.items() if size and size not in taken), "layers")
    shards: list[str] = []
    held: dict[str, Array] = {}
    for layer, made in _files.arrays(net, progress):
        named = {f"{layer}/{_files.TENSORFLOW_NAMES[name]}": array for name, array in made.items()}
        if plan == "joined" and not shards and not held:
            held = named  # the first layer goes with the second
            continue
        for tensors in [{key: array} for key, array in named.items()] if plan == "arrays" else [held | named]:
            shards.append(f"{path}_{len(shards)}")
            tf.raw_ops.SaveV2(
                prefix=shards[-1],
                tensor_names=list(tensors),
                shape_and_slices=[""] * len(tensors),
                tensors=[_tensor(array) for array in tensors.values()],
            )
        held = {}
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=shards, destination_prefix=path, delete_old_dirs=False)
    for shard in shards:
        for suffix in (".index", ".data-00000-of-00001"):
            if os.path.exists(shard + suffix):
                os.unlink(shard + suffix)


def _tensor(array: Array) -> Any:
    """`array` as a tensor on its own memory: `tf.constant` would copy a large one twice."""
    owned = array if array.flags.writeable else array.copy()
    return tf.experimental.dlpack.from_dlpack(owned.__dlpack__())
