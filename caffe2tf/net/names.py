"""Keras's and TensorFlow's names for Caffe's."""

import keyword
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caffe2tf.net.net import Net


def keras_names(net: "Net") -> dict[str, str]:
    """{Caffe's layer name: its name in Keras}: what TensorFlow allows in no scope (`/`, spaces, umlauts) becomes `_`, a
    name that is taken gets `_1`, `_2`, ... No layer is named as an input."""
    taken = set(input_names(net).values())
    return {node.layer.name: free(plain(node.layer.name), taken) for node in net.nodes if node.layer.type != "Input"}


def input_names(net: "Net") -> dict[str, str]:
    """{input blob: its name in Keras and in signatures}, a Python identifier."""
    taken: set[str] = set()
    names: dict[str, str] = {}
    for blob in net.inputs:
        name = re.sub(r"[^A-Za-z0-9_]", "_", blob)
        if not name or name[0].isdigit() or name[0] == "_" or keyword.iskeyword(name) or name == "self":
            name = f"input_{name}"
        names[blob] = free(name, taken)
    return names


def plain(name: str) -> str:
    """`name` as a scope that TensorFlow allows."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return name if re.match(r"[A-Za-z0-9.]", name) else f"layer{name}"


def free(name: str, taken: set[str]) -> str:
    unique, count = name, 0
    while unique in taken:
        count += 1
        unique = f"{name}_{count}"
    taken.add(unique)
    return unique
