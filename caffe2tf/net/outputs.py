"""A network cut to what some of its blobs need, and which blobs need nothing that is not supported.

Told by the wires alone: no shape is known here, and of what is left out nothing need be.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import zip_longest

from caffe2tf.caffe.caffe_pb2 import LayerParameter, NetParameter
from caffe2tf.caffe.read import Blob
from caffe2tf.errors import Caffe2TFError, NetError, UnsupportedLayer, WeightMismatch
from caffe2tf.layers import kind_of
from caffe2tf.net.memory import Memory
from caffe2tf.net.support import problems


class Cut:
    """What the blobs `outputs` need of a network: called with its NetParameter, it leaves the rest out; then `lent` says which
    weights of a file are those of the layers that stayed."""

    def __init__(self, outputs: Sequence[str]) -> None:
        self.outputs = tuple(dict.fromkeys(outputs))
        self._layers: list[LayerParameter] = []
        self._kept: list[int] = []

    def __call__(self, param: NetParameter) -> list[str]:
        """Leaves in `param` the layers, and the inputs, that the blobs need; returns notes.

        A blob is meant as it is at the end of the whole network. Where a layer that is not supported changes it in place, it is
        meant as the last layer before that one leaves it, and a note says so. Raises NetError with the nearest names for
        a blob that no layer makes.
        """
        self._layers = _copies(param.layer)
        graph = _Graph(self._layers)
        _check_known(self.outputs, graph.writers)
        notes, todo = [], list[int]()
        for name in self.outputs:
            at = graph.last(name)
            if at != graph.writers[name][-1]:
                later = next(i for i in graph.writers[name] if i in graph.beyond)
                changer = self._layers[later]
                notes.append(
                    f"blob '{name}' is what it is before layer '{changer.name}' ({changer.type}), which is not supported or "
                    "needs what is not, changes it in place"
                )
            todo.append(at)
        kept = set[int]()
        while todo:
            index = todo.pop()
            if index not in kept:
                kept.add(index)
                todo += graph.sources[index]
        self._kept = sorted(kept)
        read = {*self.outputs, *(bottom for index in kept for bottom in self._layers[index].bottom)}
        del param.layer[:]
        param.layer.extend(_read_tops(self._layers[index], read) for index in self._kept)
        return notes

    def lent(self, blobs: Mapping[str, Sequence[Blob]]) -> dict[str, Sequence[Blob]]:
        """`blobs` {layer: its Blobs}, in the order of the file, of the layers that stayed alone: each parameter that is shared by
        name as the last in the file has it, were it of a layer that is gone. Of layers of one name the first has the
        weights. Raises WeightMismatch where a layer lacks blobs that only stood in a layer that is gone."""
        owner: dict[str, int] = {}
        for index in sorted(range(len(self._layers)), key=lambda i: self._layers[i].type == "Input"):
            owner.setdefault(self._layers[index].name, index)
        shared: dict[str, Blob] = {}
        for name, found in blobs.items():
            specs = self._layers[owner[name]].param if name in owner else ()
            shared.update((spec.name, blob) for spec, blob in zip(specs, found, strict=False) if spec.name)
        kept, stayed = dict[str, Sequence[Blob]](), set(self._kept)
        for name, found in _own_first(blobs, (self._layers[index].name for index in self._kept)).items():
            if owner[name] not in stayed:
                continue
            proto = self._layers[owner[name]]
            names = [spec.name for spec in proto.param]
            given = [shared.get(one, own) for one, own in zip_longest(names, found)]
            if any(given):
                if None in given:
                    raise WeightMismatch(
                        f"layer '{name}' ({proto.type}): shares parameters with a layer that `outputs` leaves out, and the file has "
                        "no others for it"
                    )
                kept[name] = [blob for blob in given if blob is not None]
        return kept


def hinted(error: UnsupportedLayer, param: NetParameter) -> UnsupportedLayer:
    """`error` of `param` with one line more: the outputs that are still to be had, which are its `outputs` too."""
    lines = str(error).splitlines()
    found = outermost(param, [line for line in lines if line.startswith("layer '")])
    if not found:
        return error
    made = type(error)(*error.args, f"still to be had with `outputs` {','.join(found)}")
    made.outputs = found
    return made


def outermost(param: NetParameter, faults: Sequence[str] = ()) -> tuple[str, ...]:
    """The blobs that need no layer that is not supported, nor one that a line of `faults` starts with, and that no other such
    layer reads; inputs aside."""
    layers = list(param.layer)
    graph = _Graph(layers, faults)
    read = {key for index, keys in enumerate(graph.reads) if index not in graph.beyond for key in keys}
    found = []
    for name, writers in graph.writers.items():
        at = graph.last(name)
        fine = at not in graph.beyond and name in layers[at].top and layers[at].bottom
        if fine and (at, name) not in read and writers:
            found.append((at, name))
    return tuple(name for _, name in sorted(found))


class _Graph:
    """`writers` {blob: the layers that write it, in order: in place and through shared memory too}; `reads` of each layer
    {(the last writer of a bottom, the bottom)}; `sources` of each layer those writers; `beyond` the layers that are not
    supported or lack a bottom, and all that need one."""

    def __init__(self, layers: Sequence[LayerParameter], faults: Sequence[str] = ()) -> None:
        self.writers: dict[str, list[int]] = {}
        self.reads: list[set[tuple[int, str]]] = []
        self.beyond: set[int] = set()
        memory = Memory()
        for index, proto in enumerate(layers):
            lacks = not all(blob in self.writers for blob in proto.bottom)
            told = any(line.startswith(f"layer '{proto.name}' ") for line in faults)
            if lacks or told or problems(NetParameter(layer=[proto])):
                self.beyond.add(index)
            self.reads.append({(self.writers[blob][-1], blob) for blob in proto.bottom if blob in self.writers})
            kind = kind_of(proto)
            shared = kind.may_share(proto) if kind and proto.bottom else {}
            for place, top in enumerate(proto.top):
                if top in self.writers:
                    for other in memory.beside(top):
                        self.writers[other].append(index)
                else:
                    bottom = shared.get(place)
                    memory.make(top, bottom if bottom in self.writers else None)
                self.writers.setdefault(top, []).append(index)
        self.sources = [{writer for writer, _ in read} for read in self.reads]
        for index, sources in enumerate(self.sources):
            if self.beyond & sources:
                self.beyond.add(index)

    def last(self, name: str) -> int:
        """The last layer that writes `name` and needs nothing that is not supported; the last of all where there is none."""
        writers = self.writers[name]
        return next((index for index in reversed(writers) if index not in self.beyond), writers[-1])


def checked(outputs: str | Sequence[str]) -> list[str]:
    """The names in `outputs`, one or several. Raises Caffe2TFError for what is none."""
    names = [outputs] if isinstance(outputs, str) else list(outputs) if isinstance(outputs, Iterable) else []
    if not names or not all(isinstance(name, str) and name for name in names):
        raise Caffe2TFError(f"`outputs` {outputs!r}; takes names of blobs")
    return names


def _check_known(names: Sequence[str], known: Iterable[str]) -> None:
    known = list(known)
    if lacking := [name for name in names if name not in known]:
        near = dict.fromkeys(one for name in lacking for one in get_close_matches(name, known, 3))
        blobs = ", ".join(f"'{name}'" for name in lacking)
        raise NetError(
            f"no blob{'s' if len(lacking) > 1 else ''} {blobs}" + (f"; nearest: {', '.join(near)}" if near else "")
        )


def _copies(layers: Iterable[LayerParameter]) -> list[LayerParameter]:
    return [LayerParameter.FromString(layer.SerializeToString()) for layer in layers]


def _read_tops(layer: LayerParameter, read: set[str]) -> LayerParameter:
    """`layer`, an Input with those of its tops alone that are in `read`."""
    if layer.type != "Input":
        return layer
    (layer,) = _copies([layer])
    places = [place for place, top in enumerate(layer.top) if top in read]
    shapes = list(layer.input_param.shape)
    if len(shapes) == len(layer.top):
        del layer.input_param.shape[:]
        layer.input_param.shape.extend(shapes[place] for place in places)
    layer.top[:] = [layer.top[place] for place in places]
    return layer


def _own_first(blobs: Mapping[str, Sequence[Blob]], names: Iterable[str]) -> dict[str, Sequence[Blob]]:
    """Each of `names` with its Blobs, none where the file has none: those in the file first, in its order."""
    wanted = dict.fromkeys(names)
    return {name: blobs[name] for name in blobs if name in wanted} | {name: () for name in wanted if name not in blobs}
