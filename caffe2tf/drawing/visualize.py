"""What can be seen of a network: which of its numbers are drawn, and how they are called."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from caffe2tf import bundled, loading, words
from caffe2tf.drawing import graph
from caffe2tf.drawing import render as drawings
from caffe2tf.errors import Caffe2TFError, NetError
from caffe2tf.images import preprocess
from caffe2tf.inspection import page as pages
from caffe2tf.inspection import summary as inspection
from caffe2tf.keras_model import device as devices
from caffe2tf.keras_model import model
from caffe2tf.net.net import Net
from caffe2tf.net.wiring import Node
from caffe2tf.probabilities import best, probabilities

_Path = str | os.PathLike[str]
_MOST = 4000  # pixels of a side of a table of filters: of larger ones, the first rows and columns are drawn
_SHOWN = 32  # channels of each side of a table of filters: more cannot be read
_PLACES = 10_000  # of layers, and of edges that pass rows: what is drawn in about a minute
What = Literal["filters", "activations", "graph", "all"]


class VisualizeError(Caffe2TFError):
    """What was asked to be drawn cannot be."""


def visualize(
    network: Net | loading.Path,
    what: What,
    *,
    image: loading.Path | None = None,
    layers: str | Sequence[str] = (),
    group: int | None = None,
    first: int | None = None,
    kind: str | None = None,
    device: str = "auto",
    step: Callable[[int], object] = lambda done: None,
) -> bytes:
    """A picture of `network`, a Net or the file of one, as the bytes of a file.

    `what`: "filters", the kernel of one layer of `layers`, one `group` of it (from 1, the first) and the `first` channels of each side; "activations", what each of
    `layers` makes of the picture file `image`; "graph", the network from its inputs down; "all", one HTML page of all that.
    `kind`: "png", "svg" or "pdf" (by default a graph is svg, the others png; a page is HTML alone). `device`: "auto", "cpu",
    "gpu" or "gpu:N", where the network runs. `step` is called with the parts done, `count(network, what)` of them.
    Raises VisualizeError for what cannot be drawn, NetError for an unknown layer, DeviceError, ParseError.
    """
    net = loading.network(network)
    names = [layers] if isinstance(layers, str) else list(layers)
    if (image is None) == (what in ("activations", "all")):
        raise VisualizeError(f"{what} {'needs a picture; give `image`' if image is None else 'takes no `image`'}")
    if image is not None:
        with devices.running(device):
            if what == "all":
                return everything(net, image, step).encode()
            return activations(net, image, names, kind or "png", step)
    if what == "graph":
        return graph_of(net, kind or "svg")
    if what != "filters" or len(names) != 1:
        raise VisualizeError(f"{what} of {len(names)} layers; takes filters of one, activations, graph or all")
    return filters(net, names[0], group, kind or "png", first)


def count(net: Net, what: What) -> int:
    """How many times `visualize` calls `step`."""
    return steps(net) if what == "all" else 2 if what == "activations" else 0


def kind_of(path: _Path) -> str:
    """The kind of picture that the suffix of `path` means. Raises VisualizeError."""
    kind = os.path.splitext(path)[1].lstrip(".").lower()
    if kind not in drawings.KINDS:
        raise VisualizeError(
            f"{path}: no picture has the suffix '.{kind}'; takes one of {', '.join('.' + k for k in drawings.KINDS)}"
        )
    return kind


def graph_of(net: Net, kind: str = "svg") -> bytes:
    """The graph of `net`: layers with types, shapes of their tops and parameters; those that work in place in one box."""
    known = {layer["name"]: layer for layer in inspection.summarize(net)["layers"]}

    def describe(nodes: Sequence[Node]) -> tuple[str, str, str]:
        layers = [known[node.layer.name] for node in nodes]
        count = sum(layer["parameters"] for layer in layers)
        shapes = ", ".join(map(words.shape, layers[0]["shapes"]))
        names, types = (" + ".join(layer[key] for layer in layers) for key in ("name", "type"))
        return names, types, shapes + (f" · {count:,} parameters" if count else "")

    if not net.nodes:
        raise VisualizeError(f"the network '{net.name}' has no layers to draw")
    boxes = graph.boxes(net, describe)
    if (count := graph.count_places(boxes)) > _PLACES:
        raise VisualizeError(
            f"the network '{net.name}' has {len(net.nodes)} layers whose drawing takes {count} places for layers and edges; "
            f"takes {_PLACES} at most"
        )
    return drawings.graph(net.name or "network", boxes, kind)


# ------------------------------------------------------------------------------------------------ filters


def layers_with_filters(net: Net) -> list[str]:
    """The names of the layers whose filters can be drawn."""
    return [
        node.layer.name for node in net.nodes if node.layer.filters() and len(node.layer.weight_shapes()["kernel"]) == 4
    ]


def filters(net: Net, name: str, group: int | None = None, kind: str = "png", shown: int | None = None) -> bytes:
    """The kernel of the layer `name` as tiles.

    Three channels that look at the pixels themselves are drawn as colours, in the order of the net's input; a kernel of one channel each as a
    sheet; any other as a table, one `group` of it (from 1, the first): a row for each output channel and a column for each
    input channel (of a Deconvolution the other way round), the first `shown` of each, _SHOWN where it is None. Raises NetError for an unknown layer, VisualizeError for one without filters.
    """
    layer = net.layer(name)
    title = f"{name} ({layer.type}): "
    sides = layer.filters()
    drawable = layers_with_filters(net)
    if sides is None or name not in drawable:
        has = ", ".join(drawable[:8]) + (", ..." if len(drawable) > 8 else "")
        raise VisualizeError(
            f"layer '{name}' ({layer.type}) has no filters of two axes; those that have: {has or 'none'}"
        )
    if name not in net.arrays:
        raise VisualizeError(f"layer '{name}' ({layer.type}): {net.lacking}")
    last, first, groups = sides
    if group is not None and not 1 <= group <= groups:
        raise VisualizeError(f"layer '{name}' ({layer.type}) has {groups} groups; `group` {group} is none of them")
    kernel = net.weights[name]["kernel"]
    h, w, inner, outer = kernel.shape
    size = f"{h} x {w}"
    if not np.isfinite(kernel).all():
        raise VisualizeError(f"layer '{name}' ({layer.type}): its kernel holds NaN or infinity")
    if inner == 1:
        tiles = kernel[:, :, 0].transpose(2, 0, 1)[:shown]
        said = f"{title}{_first(len(tiles), outer, 'filters')} of {size}"
        return drawings.filters(said, tiles, drawings.square_columns(len(tiles), h, w), ("", ""), kind)
    if inner == 3 and groups == 1 and _sees_pixels(net, name):
        rgb = preprocess.of(net)[0].order == "RGB"
        colours = kernel.transpose(3, 0, 1, 2)[:shown]
        words = (
            f"{title}{_first(len(colours), outer, 'filters')} of {size}, {'RGB' if rgb else 'BGR as RGB'}, grey is 0"
        )
        return drawings.colour_filters(words, colours if rgb else colours[..., ::-1], kind)
    count, which = outer // groups, (group or 1) - 1
    part = kernel[..., which * count : (which + 1) * count].transpose(3, 2, 0, 1)
    part = part[: min(shown or _SHOWN, max(1, _MOST // (h + 1))), : min(shown or _SHOWN, max(1, _MOST // (w + 1)))]
    of = f"group {which + 1} of {groups}: " if groups > 1 else ""
    counts = f"{_first(part.shape[0], count, last)} x {_first(part.shape[1], inner, first)}"
    words = f"{title}{of}{counts} channels, {size}"
    where = " of the group" if groups > 1 else ""
    labels = f"{last} channel{where}", f"{first} channel{where}"
    return drawings.filters(words, part.reshape(-1, h, w), part.shape[1], labels, kind)


def _first(shown: int, count: int, side: str) -> str:
    return f"{count} {side}" if shown == count else f"the first {shown} of {count} {side}"


def _sees_pixels(net: Net, name: str) -> bool:
    """Whether what the layer `name` reads is the picture itself, pixel by pixel."""
    fields = inspection.receptive_fields(net)
    node = next(node for node in net.nodes if node.layer.name == name)
    read = [fields[bottom] for bottom in node.bottoms]
    return all(field is not None and field and all(pixels == 1 for pixels, _ in field) for field in read)


# ------------------------------------------------------------------------------------------------ activations


def see(net: Net, image: _Path) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.uint8], str]:
    """(input {blob: (1, C, H, W)}, the picture as the network sees it, uint8 RGB or grey, how it became input)."""
    how, source = preprocess.of(net)
    others = [blob for blob, shape in net.inputs.items() if len(shape) != 4]
    if others or len(net.inputs) != 1:
        raise VisualizeError(f"the network '{net.name}' has the inputs {', '.join(net.inputs)}; a picture is only one")
    if how.resize is None:
        raise VisualizeError("the network takes any size, so nothing says which; give it with `input_shape`")
    if how.channels not in (1, 3):
        raise VisualizeError(f"the network's input has {how.channels} channels; a picture has 1 or 3")
    pixels = replace(how, mean=(0.0,), scale=1.0, order="RGB").load(image).transpose(1, 2, 0).astype(np.uint8)
    blob = next(iter(net.inputs))
    return {blob: how.load(image)[None]}, pixels if how.channels == 3 else pixels[:, :, 0], f"{how} ({source})"


def blobs_of(net: Net, names: Iterable[str]) -> dict[str, str]:
    """{top of each layer: title}. Raises NetError for an unknown layer, VisualizeError for one without tops."""
    found: dict[str, str] = {}
    for name in names:
        layer = net.layer(name)
        node = next(node for node in net.nodes if node.layer is layer)
        if not node.tops:
            raise VisualizeError(f"layer '{name}' ({layer.type}) has no top to draw")
        for blob, _ in node.tops:
            writers = [other.layer for other in net.nodes if blob in dict(other.tops)]
            found[blob] = f"{' + '.join(one.name for one in writers)} ({' + '.join(one.type for one in writers)})"
    return found


def _panel(title: str, value: NDArray[np.float32]) -> tuple[str, NDArray[np.float32]]:
    """(title, tiles or vector) of a blob of one item in Caffe's order."""
    value = value[0] if value.ndim > 1 else value
    shape = words.shape(value.shape)
    if not np.isfinite(value).all():
        raise VisualizeError(
            f"{title}: holds NaN or infinity, {np.count_nonzero(~np.isfinite(value)):,} of {value.size:,} values"
        )
    if value.ndim == 3 and value.shape[1:] != (1, 1):
        return f"{title}  {shape}, channels row by row, {value.min():.4g} to {value.max():.4g}", value
    flat = value.reshape(-1)
    return f"{title}  {shape}, largest {flat.max():.4g} at {int(flat.argmax())}", flat


def activations(
    net: Net, image: _Path, layers: Iterable[str], kind: str = "png", step: Callable[[int], object] = lambda done: None
) -> bytes:
    """The feature maps of `layers` for the picture `image`, beside it; a layer that is changed in place as it is
    afterwards. `step` is called twice: when the network has run, and when all is drawn."""
    wanted = blobs_of(net, layers)
    inputs, pixels, _ = see(net, image)
    values = _run(net, list(wanted), inputs)
    step(1)
    maps = [_panel(title, values[blob]) for blob, title in wanted.items()]
    drawn = drawings.activations(f"{net.name or 'network'}: {os.path.basename(image)}", pixels, maps, kind)
    step(1)
    return drawn


def _run(net: Net, blobs: Sequence[str], inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    shapes = {blob: array.shape for blob, array in inputs.items()}
    return model.compiled(net.reshape(shapes) if shapes != net.inputs else net, blobs)(inputs)


# ------------------------------------------------------------------------------------------------ everything


def everything(net: Net, image: _Path, step: Callable[[int], object] = lambda done: None) -> str:
    """One HTML page: the network, its first filters, what it makes of `image` in every convolution and pooling, and the
    top classes where it ends in class probabilities. `step` is called with the pictures drawn, `steps(net)` of them."""
    inputs, pixels, how = see(net, image)
    wanted = blobs_of(net, main_layers(net))
    values = _run(net, list(dict.fromkeys([*wanted, *net.outputs])), inputs)
    step(1)
    pictures = []
    if first := _first_filters(net):
        pictures.append(("First filters", filters(net, first, kind="webp")))
        step(1)
    for blob, title in wanted.items():
        heading, value = _panel(title, values[blob])
        pictures.append((heading, drawings.activations("", None, [("", value)], "webp")))
        step(1)
    pictures.append(("The network", graph_of(net)))
    step(1)
    facts = [
        f"{len(net.nodes)} layers, {inspection.summarize(net)['parameters']:,} parameters",
        f"pictures become input as {how}",
    ]
    title = f"{net.name or 'network'}: {os.path.basename(image)}"
    return pages.visualization(title, facts, drawings.picture(pixels), *_top(net, values), pictures)


def main_layers(net: Net) -> list[str]:
    """The layers whose feature maps the page shows: convolutions and poolings."""
    kinds = ("Convolution", "Deconvolution", "Pooling")
    return [node.layer.name for node in net.nodes if any(kind in node.layer.types for kind in kinds)]


def steps(net: Net) -> int:
    """How many times `everything` calls `step`."""
    return 2 + bool(_first_filters(net)) + len(blobs_of(net, main_layers(net)))


def _first_filters(net: Net) -> str | None:
    return next(iter(layers_with_filters(net)), None)


def _top(net: Net, values: Mapping[str, NDArray[np.float32]]) -> tuple[str, list[tuple[str, float]]]:
    """(heading, [(class name, probability)]) of the only output, empty where it has no one score for each class."""
    if len(net.outputs) != 1:
        return "", []
    scores = values[net.outputs[0]]
    try:
        shares = probabilities(scores)[0]
    except NetError:
        return "", []
    if len(shares) < 2:
        return "", []
    names = bundled.classes() if len(shares) == 1000 else [f"class {c}" for c in range(len(shares))]
    softmax = "" if np.allclose(scores.reshape(-1), shares, atol=1e-6) else " (softmax of the scores)"
    return f"Top classes{softmax}", [(names[c], share) for c, share in best(shares)]
