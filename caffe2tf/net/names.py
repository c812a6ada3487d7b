"""Keras's and TensorFlow's names for Caffe's."""

import keyword
import re


def keras_names(net):
    """{Caffe's layer name: its name in Keras}: what TensorFlow allows in no scope (`/`, spaces, umlauts) becomes `_`, a
    name that is taken gets `_1`, `_2`, ... No layer is named as an input."""
    taken = set(input_names(net).values())
    return {node.layer.name: free(plain(node.layer.name), taken) for node in net.nodes if node.layer.type != "Input"}


def input_names(net):
    """{input blob: its name in Keras and in signatures}, a Python identifier."""
    taken, names = set(), {}
    for blob in net.inputs:
        name = re.sub(r"[^A-Za-z0-9_]", "_", blob)
        if not name or name[0].isdigit() or name[0] == "_" or keyword.iskeyword(name) or name == "self":
            name = f"input_{name}"
        names[blob] = free(name, taken)
    return names


def plain(name):
    """`name` as a scope that TensorFlow allows."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return name if re.match(r"[A-Za-z0-9.]", name) else f"layer{name}"


def free(name, taken):
    unique, count = name, 0
    while unique in taken:
        count += 1
        unique = f"{name}_{count}"
    taken.add(unique)
    return unique
