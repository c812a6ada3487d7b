"""What judges are fed: pictures, or noise by seed that every input can hold."""

import os
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from caffe2tf import words
from caffe2tf.arrays.layout import Floats, Shape
from caffe2tf.errors import NetError, ParseError
from caffe2tf.images import decode as imaging
from caffe2tf.images import preprocess
from caffe2tf.layers import Layer
from caffe2tf.net.net import Net
from caffe2tf.net.wiring import Blob
from caffe2tf.verification.sets import GoldenError

ITEMS = 2  # of a batch of noise: enough to see items mixed up
PICTURES = 8  # at most, of a folder

_Noise = Callable[[np.random.RandomState, Shape, Layer], NDArray[np.float64]]


def inputs(net: Net, images: str | os.PathLike[str] | None = None, seed: int = 0) -> tuple[dict[str, Floats], str]:
    """({input: float32 array in Caffe's axis order}, what they are in words).

    `images`: a picture, or a folder of which the first few in order of their names are taken, for the first input of an
    image; what is left, or all, is noise by `seed`. Raises GoldenError where the files leave an extent open, for a network without such an
    input, and for what is no picture.
    """
    if net.unknown_size:
        open_ones = ", ".join(f"'{name}' {words.shape(net.inputs[name])}" for name in net.unknown_size)
        raise GoldenError(f"the network '{net.name}' leaves the shape of {open_ones} open; say it with `input_shape`")
    random = np.random.RandomState(seed)
    given, said = dict[str, Floats](), list[str]()
    shapes = _shapes(net)
    if images is not None:
        name, array, how = _pictures(net, os.fspath(images))
        given[name] = array
        said.append(how)
        shapes = {blob: (len(array), *shape[1:]) if blob == name else shape for blob, shape in shapes.items()}
    for name, shape in shapes.items():
        if name not in given:
            noise, how = _noise(net, name, shape, random)
            given[name] = noise.astype(np.float32)
            said.append(f"'{name}' {words.shape(shape)}: {how} (seed {seed})")
    return {name: given[name] for name in net.inputs}, "; ".join(said) or "nothing"


def _shapes(net: Net) -> dict[str, Shape]:
    """Of the inputs; a lone image input of many items has ITEMS where the network takes that."""
    shapes = {name: tuple(int(n or 0) for n in shape) for name, shape in net.inputs.items()}
    if len(shapes) == 1:
        ((name, shape),) = shapes.items()
        few = {name: (ITEMS, *shape[1:])}
        if len(shape) == 4 and shape[0] > ITEMS:
            try:
                net.reshape(few)
            except NetError:
                return shapes
            return few
    return shapes


def _pictures(net: Net, path: str) -> tuple[str, Floats, str]:
    """(input, its array, words) of the picture or the folder `path`."""
    files = [path]
    if os.path.isdir(path):
        names = sorted(name for name in os.listdir(path) if name.lower().endswith(imaging.SUFFIXES))
        files = [os.path.join(path, name) for name in names[:PICTURES]]
    if not files or not os.path.exists(path):
        raise GoldenError(
            f"{path}: {'holds no pictures' if files == [] else 'no such file'}; `images` takes a picture or a folder"
        )
    blob = next((name for name, shape in net.inputs.items() if len(shape) == 4), None)
    try:
        how, source = preprocess.of(net)
        stack = np.stack([how.load(file) for file in files])
        if blob is None or stack.shape[1:] != tuple(net.inputs[blob][1:]):
            raise ParseError(f"`images` become {words.shape(stack.shape[1:])}; the network takes {dict(net.inputs)}")
        if stack.shape[0] != net.inputs[blob][0]:
            net.reshape({blob: stack.shape})
    except (ParseError, NetError) as error:
        raise GoldenError(str(error)) from None
    count = "1 picture" if len(files) == 1 else f"{len(files)} pictures"
    return blob, stack, f"'{blob}' {words.shape(stack.shape)}: {count} of {path} ({how}; {source})"


# ------------------------------------------------------------------------------------------------ noise


def _noise(net: Net, name: str, shape: Shape, random: np.random.RandomState) -> tuple[NDArray[np.float64], str]:
    """(values that the readers of an input take, what they are in words)."""
    for node in net.nodes:
        for index, (bottom, version) in enumerate(node.bottoms):
            known = next((_READERS[kind, index] for kind in node.layer.types if (kind, index) in _READERS), None)
            if node.layer.type == "Filter" and index == len(node.bottoms) - 1:
                known = "whether an item stays", _bits
            if node.layer.type == "BatchReindex" and index == 1 and _filtered(net, node.bottoms[0]):
                known = "0, the one item that a Filter lets through at least", _zeros
            if known is not None and (bottom, version) == (name, 0):
                return known[1](random, shape, node.layer), f"{known[0]}, for '{node.layer.name}'"
    if len(shape) == 4 and shape[1] in (1, 3):
        try:
            least, most = preprocess.of(net)[0].span
        except ParseError:
            least, most = 0.0, 255.0
        return random.uniform(least, most, shape), f"noise from {least:g} to {most:g}"
    return random.uniform(-1, 1, shape), "noise from -1 to 1"


def _bits(random: np.random.RandomState, shape: Shape, layer: Layer) -> NDArray[np.float64]:
    """0 and 1, of each at least one where there is room."""
    values = random.randint(0, 2, shape).astype(np.float64)
    values.flat[:2] = [1, 0][: values.size]
    return values


def _continues(random: np.random.RandomState, shape: Shape, layer: Layer) -> NDArray[np.float64]:
    """1 where a sequence goes on; none does at the first step."""
    values = (random.rand(*shape) < 0.8).astype(np.float64)
    values[0] = 0
    return values


def _words(random: np.random.RandomState, shape: Shape, layer: Layer) -> NDArray[np.float64]:
    return random.randint(0, layer.proto.embed_param.input_dim, shape).astype(np.float64)


def _places(random: np.random.RandomState, shape: Shape, layer: Layer) -> NDArray[np.float64]:
    return random.randint(0, layer.bottoms[0][0], shape).astype(np.float64)


def _zeros(random: np.random.RandomState, shape: Shape, layer: Layer) -> NDArray[np.float64]:
    return np.zeros(shape)


def _filtered(net: Net, blob: Blob) -> bool:
    """Whether the number of items of `blob` is that of a Filter, or may be."""
    left, seen = [blob], set[Blob]()
    while left:
        one = left.pop()
        node = net.producers.get(one)
        if node is not None and node.layer.type == "Filter":
            return True
        if node is not None and one not in seen:
            seen.add(one)
            left.extend(node.bottoms)
    return False


def _regions(random: np.random.RandomState, shape: Shape, layer: Layer) -> NDArray[np.float64]:
    """(item, x1, y1, x2, y2) in pixels of the picture."""
    items, _, height, width = layer.bottoms[0]
    scale = layer.p.spatial_scale or 1.0
    corners = np.sort(random.rand(shape[0], 2, 2), axis=1) * (width / scale, height / scale)
    found = np.concatenate([random.randint(0, items, (shape[0], 1)), corners.reshape(-1, 4).round()], axis=1)
    return found.reshape(shape)


def _picture(random: np.random.RandomState, shape: Shape, layer: Layer) -> NDArray[np.float64]:
    """(height, width, scale, ...) of a picture of which each cell of the scores is 16 pixels."""
    values = np.ones(shape)
    values[..., :2] = 16 * np.array(layer.bottoms[0][2:])
    return values


def _scores(random: np.random.RandomState, shape: Shape, layer: Layer) -> NDArray[np.float64]:
    return random.rand(*shape)


def _priors(random: np.random.RandomState, shape: Shape, layer: Layer) -> NDArray[np.float64]:
    """Boxes (x1, y1, x2, y2) in 0 to 1, then a variance of 0.1 for each value."""
    count = shape[2] // 4
    low = random.rand(count, 2) * 0.7
    boxes = np.concatenate([low, low + 0.05 + 0.25 * random.rand(count, 2)], axis=1)
    return np.stack([boxes.reshape(-1), np.full(4 * count, 0.1)]).reshape(shape)


# Inputs that mean something: (type, index of the bottom) -> (words, what makes them).
_READERS: Mapping[tuple[str, int], tuple[str, _Noise]] = {
    ("Embed", 0): ("whole numbers below input_dim", _words),
    ("BatchReindex", 1): ("numbers of items", _places),
    ("LSTM", 1): ("0 where a sequence starts, else 1", _continues),
    ("RNN", 1): ("0 where a sequence starts, else 1", _continues),
    ("LSTMUnit", 2): ("0 where a sequence starts, else 1", _bits),
    ("ROIPooling", 1): ("regions in the picture", _regions),
    ("PSROIPooling", 1): ("regions in the picture", _regions),
    ("ROIAlign", 1): ("regions in the picture", _regions),
    ("Proposal", 2): ("the picture's extents", _picture),
    ("rpn.proposal_layer.ProposalLayer", 2): ("the picture's extents", _picture),
    ("SSH.layers.proposal_layer.ProposalLayer", 2): ("the picture's extents", _picture),
    ("Proposal", 0): ("scores from 0 to 1", _scores),
    ("DetectionOutput", 1): ("scores from 0 to 1", _scores),
    ("DetectionOutput", 2): ("boxes and variances", _priors),
}
