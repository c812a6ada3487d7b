"""Layers in their places: which blob each reads and writes, and every shape."""

from dataclasses import dataclass

from caffe2tf.errors import NetError
from caffe2tf.layers import REGISTRY
from caffe2tf.support import refuse_unsupported
from caffe2tf.upgrade import UNKNOWN

# Two sizes for heights and widths that no file tells: extents that differ between them are unknown, others are not.
_PROBES = (256, 320)


@dataclass(frozen=True)
class Node:
    """One layer in its place. Blobs are (name, version): an in-place layer makes the next version of its bottom.

    `shapes`: of the tops, in Caffe's order; None is an extent that nothing tells.
    """

    row: object
    bottoms: tuple
    tops: tuple
    shapes: tuple


def wire(param, blobs):
    """(nodes, notes) of `param`; `blobs` {layer: sequence of things with a shape} settle extents that it leaves open."""
    refuse_unsupported(param)
    sizes = _PROBES if any(n == UNKNOWN for s in _input_dims(param) for n in s) else _PROBES[:1]
    version, shapes, nodes, notes, names = {}, {}, [], [], set()
    for proto in param.layer:
        where = f"layer '{proto.name}' ({proto.type})"
        if proto.name in names:
            raise NetError(f"{where}: a second layer of that name")
        names.add(proto.name)
        row = REGISTRY[proto.type]
        _check_count(where, "bottoms", len(proto.bottom), row.bottom_count)
        _check_count(where, "tops", len(proto.top), row.top_count)
        bottoms = []
        for blob in proto.bottom:
            if blob not in version:
                later = any(blob in other.top for other in param.layer)
                why = (
                    "is made only by a later layer (a cycle, or layers out of order)"
                    if later
                    else "is made by no layer"
                )
                raise NetError(f"{where}: bottom '{blob}' {why}")
            bottoms.append((blob, version[blob]))
        tops = []
        for blob in proto.top:
            if blob in version and blob not in proto.bottom:
                raise NetError(f"{where}: top '{blob}' is already made by another layer")
            version[blob] = version[blob] + 1 if blob in version else 0
            tops.append((blob, version[blob]))

        probed = [[shapes[b][i] for b in bottoms] for i in range(len(sizes))]
        if hasattr(row, "settle") and len(sizes) > 1 and probed[0] != probed[1]:
            settled = row.settle(proto, _merge([p[0] for p in probed]), blobs.get(proto.name))
            if None not in settled:
                notes.append(
                    f"{where}: its bottom is taken as {settled[2]}x{settled[3]}, the square that its weights fit"
                )
                probed = [[settled]] * len(sizes)
        rows = [row(_sized(proto, size), bottom) for size, bottom in zip(sizes, probed, strict=True)]
        outs = [one.tops() for one in rows]
        if any(n < 1 for out in outs for shape in out for n in shape):
            raise NetError(
                f"{where}: bottoms {rows[0].bottoms} give a top of shape {outs[0]}; every extent must be at least 1"
            )
        for index, top in enumerate(tops):
            shapes[top] = [out[index] for out in outs]
        merged = tuple(_merge([out[index] for out in outs]) for index in range(len(tops)))
        nodes.append(Node(rows[0], tuple(bottoms), tuple(tops), merged))
    return tuple(nodes), notes


def _input_dims(param):
    return [tuple(shape.dim) for layer in param.layer if layer.type == "Input" for shape in layer.input_param.shape]


def _sized(proto, size):
    """An Input with its unknown extents set to the probe's."""
    if proto.type != "Input" or not any(UNKNOWN in shape.dim for shape in proto.input_param.shape):
        return proto
    sized = type(proto).FromString(proto.SerializeToString())
    for shape in sized.input_param.shape:
        if len(shape.dim) > 1 and shape.dim[1] == UNKNOWN:
            raise NetError(
                f"input '{proto.top[0]}': the file does not tell its channels; give its shape with --input-shape"
            )
        shape.dim[:] = [size if n == UNKNOWN else n for n in shape.dim]
    return sized


def _merge(shapes):
    """One shape from those of all probes: None where they differ."""
    return tuple(extents[0] if len(set(extents)) == 1 else None for extents in zip(*shapes, strict=True))


def _check_count(where, what, count, allowed):
    least, most = allowed
    if count < least or (most is not None and count > most):
        takes = str(least) if least == most else f"{least} to {most}" if most is not None else f"{least} or more"
        raise NetError(f"{where}: {count} {what}; takes {takes}")
