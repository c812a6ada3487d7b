"""What goes along with a whole model: how pictures become its input, its classes, its network text."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from caffe2tf.caffe.read import read_prototxt
from caffe2tf.errors import ParseError
from caffe2tf.files import digests
from caffe2tf.formats import _files
from caffe2tf.images import notes, preprocess
from caffe2tf.net import reading
from caffe2tf.net.net import Net

if TYPE_CHECKING:
    from caffe2tf.keras_model.pictures import Pictures


def of(net: Net, given: "Pictures | None" = None, places: Mapping[str, Any] | None = None) -> str:
    """The JSON that is kept in the model under preprocess.FILE: what `notes.to_json` says of pictures, and `name`, `labels`,
    `prototxt`, `outputs` where blobs were chosen; with `places`, where a converter put the weights (`_held.places`), these as
    `weights`, and `weights_sha256`. A model of pictures, `given`, is more than its network, so it has no text."""
    said = json.loads(notes.to_json(net, given.outside if given else None)) | {"name": net.name}
    if given:
        return json.dumps(said | {"labels": list(given.names)})
    said |= {"prototxt": net.text()}
    said |= {"labels": list(net.labels)} if net.labels else {}
    said |= {"outputs": list(net.chosen)} if net.chosen else {}
    if places is not None:
        said |= {"weights": places, "weights_sha256": digests.of_arrays(net.arrays)}
    return json.dumps(said)


def write(path: str, net: Net, given: "Pictures | None", places: Mapping[str, Any] | None = None) -> None:
    """Adds the note to the zip archive at `path`, or begins one at the end of the file, and the names of the classes where the model
    takes pictures itself."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(preprocess.FILE, of(net, given, places))
        if given:
            archive.writestr(_files.LABELS, _files.text_of(given.names))


def network(noted: Mapping[str, Any], path: str, input_shape: Mapping[str | None, Sequence[int]] | None = None) -> Net:
    """The Net, still without weights, of the text in `noted`, the note of the whole model at `path`. Raises ParseError where it holds
    none: others wrote it, or it is a model of pictures."""
    if not noted.get("prototxt"):
        # Others wrote no name, nor did caffe2tf before it kept the text.
        why = "takes pictures itself, which is more than its network does" if "name" in noted else ""
        why = why or "does not hold its network text, as what caffe2tf writes does"
        raise ParseError(f"{path}: {why}; only classify can run it. Take the file that it was converted from")
    source = read_prototxt(path, data=noted["prototxt"].encode())
    net = reading.from_source(source, None, input_shape)
    net = replace(net, labels=tuple(noted.get("labels", ())), name=noted.get("name", net.name))
    if noted.get("preprocessing"):
        how = preprocess.made_of(noted["preprocessing"], path)
        net = net if how == preprocess.of(net)[0] else replace(net, preprocessing=how)
    return net.cut(noted["outputs"]) if noted.get("outputs") else net
