"""Keras's names for Caffe's layers."""


def keras_names(net):
    """{Caffe's layer name: its name in Keras}: `/` becomes `_`, a name that is taken gets `_1`, `_2`, ...

    Inputs come first: a layer may not be named as an input blob.
    """
    taken, names = set(), {}

    def free(name):
        plain = name.replace("/", "_") or "layer"
        unique, count = plain, 0
        while unique in taken:
            count += 1
            unique = f"{plain}_{count}"
        taken.add(unique)
        return unique

    for blob in net.inputs:
        free(blob)
    for node in net.nodes:
        if node.row.type != "Input":
            names[node.row.name] = free(node.row.name)
    return names
