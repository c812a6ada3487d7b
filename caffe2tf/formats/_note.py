"""What goes along with a whole model: how pictures become its input, its classes, its network text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from caffe2tf.caffe.read import read_prototxt
from caffe2tf.errors import ParseError
from caffe2tf.files import digests
from caffe2tf.images import preprocess
from caffe2tf.net import reading
from caffe2tf.net.net import Net


def of(net: Net, weights: bool = False) -> str:
    """The JSON that is kept in the model under preprocess.FILE: what `preprocess.to_json` says of pictures, and `name`, `labels`,
    `prototxt`, `outputs` where blobs were chosen; with `weights` also `weights_sha256`, for a model that does not give them back."""
    said = json.loads(preprocess.to_json(net)) | {"name": net.name, "prototxt": net.text()}
    said |= {"labels": list(net.labels)} if net.labels else {}
    said |= {"outputs": list(net.chosen)} if net.chosen else {}
    said |= {"weights_sha256": digests.of_arrays(net.arrays)} if weights else {}
    return json.dumps(said)


def network(noted: Mapping[str, Any], path: str, input_shape: Mapping[str | None, Sequence[int]] | None = None) -> Net:
    """The Net, still without weights, of the text in `noted`, the note of the whole model at `path`. Raises ParseError where it holds
    none: others wrote it, or caffe2tf before it kept the text."""
    if not noted.get("prototxt"):
        raise ParseError(
            f"{path}: does not hold its network text, as what caffe2tf writes does; only classify can run it. Take the "
            "file that it was converted from"
        )
    source = read_prototxt(path, data=noted["prototxt"].encode())
    net = reading.from_source(source, None, input_shape)
    net = replace(net, labels=tuple(noted.get("labels", ())), name=noted.get("name", net.name))
    if noted.get("preprocessing"):
        how = preprocess.made_of(noted["preprocessing"], path)
        net = net if how == preprocess.of(net)[0] else replace(net, preprocessing=how)
    return net.cut(noted["outputs"]) if noted.get("outputs") else net


def blank(net: Net) -> Net:
    """`net` with weights that are all 0, to be filled."""
    arrays = {
        node.layer.name: tuple(np.zeros(weight.shape, np.float32) for weight in node.layer.blobs())
        for node in net.nodes
        if node.layer.blobs()
    }
    return replace(net, arrays=arrays)
