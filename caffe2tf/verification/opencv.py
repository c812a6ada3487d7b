"""OpenCV 4 as a judge: `cv2.dnn` reads the same files with code that shares nothing with ours.

It reads the user's own files where it can. A layer that it cannot run, or computes otherwise by design (`otherwise.py`), is
not judged: it becomes an input, fed with our values of its tops, so that what follows is judged still. Then OpenCV reads a text
that this writes, each version of a blob under a name of its own, with the user's weights.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf import text_format
from numpy.typing import NDArray

from caffe2tf.arrays.layout import Floats
from caffe2tf.caffe.caffe_pb2 import LayerParameter, NetParameter
from caffe2tf.caffe.read import read_caffemodel
from caffe2tf.formats import caffemodel
from caffe2tf.keras_model import model
from caffe2tf.net.net import Net
from caffe2tf.net.wiring import Blob, Node
from caffe2tf.verification import opencv_process, otherwise
from caffe2tf.verification.opencv_process import Tried
from caffe2tf.verification.sets import Expected, Golden, Judge, JudgeError, Original

TOLERANCE = 1e-4  # of float32 sums in an order of their own, over the depth of a network
_MOST_TRIES = 60
_MOST_STARTS = 3  # then it is not the layer that OpenCV does not take


def record(net: Net, inputs: Mapping[str, Floats], found: Mapping[str, Floats], original: Original, fed: str) -> Golden:
    """What OpenCV computes of `net` on `inputs`, as a golden set.

    `found` {blob: value}: what stands in for the tops of layers that OpenCV does not give. Raises JudgeAbsent where there is no OpenCV 4,
    and JudgeError with OpenCV's reason where it can run no layer.
    """
    with tempfile.TemporaryDirectory(prefix="caffe2tf-opencv-") as folder:
        return _Run(net, inputs, found, original, folder).golden(fed)


class _Run:
    def __init__(
        self, net: Net, inputs: Mapping[str, Floats], found: Mapping[str, Floats], original: Original, folder: str
    ) -> None:
        self.net, self.inputs, self.found, self.original, self.folder = net, inputs, found, original, folder
        self.tries = 0
        self.starts = 0  # how often in turn the first layer that was left was refused
        self.cuts: dict[int, str] = {}  # index of a node -> why it is not judged
        for index, node in enumerate(net.nodes):
            bottoms = [found[name] for name, version in node.bottoms if net.last_versions[name] == version]
            if node.layer.type != "Input" and (reason := otherwise.why(node, bottoms)):
                self.cuts[index] = reason
        self.weights = original.weights if original.weights and not _odd(net, original.weights) else None
        self.given: dict[Blob, Floats] = {(name, 0): array for name, array in inputs.items()}

    # -------------------------------------------------------------------------------------------- running

    def golden(self, fed: str) -> Golden:
        self._left()
        tried, read = self._first()
        while tried.error is not None:
            self._cut(tried.error)
            self._left()
            tried, read = self._ours(len(self.net.nodes))
        tops = self._tops(tried)
        blobs = {
            blob: Expected(self._shaped(node, array))
            for blob, version in self.net.last_versions.items()
            for node, array in tops.get((blob, version), ())
        }
        if not blobs:
            raise self._no_judge("it gives no blob of it")
        judge = Judge("opencv", f"OpenCV {tried.version}", read, fed)
        given = {blob: array for blob, array in self.given.items() if blob[0] not in self.inputs or blob[1]}
        return Golden(
            "opencv",
            "",
            dict(self.inputs.items()),
            blobs,
            weights=self._weights(tried),
            judge=judge,
            tolerances=dict.fromkeys(blobs, TOLERANCE),
            given=given,
            unjudged=self._unjudged(blobs),
        )

    def _first(self) -> tuple[Tried, str]:
        """With the user's own files, where nothing speaks against it; else, or where OpenCV refuses them, with a text of ours."""
        # Blobs in one memory are apart in OpenCV, and an input that nobody reads is one too many for it.
        plain = (
            self.weights
            and not self.cuts
            and not any(node.echoes for node in self.net.nodes)
            and self._read() >= set(self.inputs)
        )
        if plain and self.original.text:
            tried = self._run(self.original.text, self.weights, self.inputs)
            if tried.error is None:
                return tried, f"{os.path.basename(self.original.text)} and {os.path.basename(self.weights or '')}"
        return self._ours(len(self.net.nodes))

    def _read(self, count: int | None = None) -> set[str]:
        """The inputs that the first `count` layers read, of those that are not cut."""
        nodes = [node for index, node in enumerate(self.net.nodes[:count]) if index not in self.cuts]
        return {_name(bottom) for node in nodes for bottom in node.bottoms}

    def _ours(self, count: int) -> tuple[Tried, str]:
        """With the first `count` layers, in a text of ours."""
        inputs, param = self._text(count)
        text = os.path.join(self.folder, "net.prototxt")
        with open(text, "w", encoding="utf-8", newline="\n") as file:
            file.write(text_format.MessageToString(param))
        if self.weights:
            read = f"{os.path.basename(self.weights)}, the text as caffe2tf reads it"
        else:
            read = "the network as caffe2tf reads it" if self.original.weights else "the network itself"
        weights = self.weights
        if weights is None and self.net.arrays:
            weights = os.path.join(self.folder, "net.caffemodel")
            if not os.path.exists(weights):
                caffemodel.save(self.net, weights)
        return self._run(text, weights, inputs), read

    def _run(self, text: str, weights: str | None, inputs: Mapping[str, Floats]) -> Tried:
        self.tries += 1
        return opencv_process.run(self.folder, text, weights, inputs)

    # -------------------------------------------------------------------------------------------- what it cannot run

    def _cut(self, error: str) -> None:
        """Takes the layer of which OpenCV complains out, and all of a type that it does not know."""
        left = self._left()
        unknown = re.search(r'Can\'t create layer ".*" of type "(\w+)"', error)
        kind = unknown[1] if unknown else ""
        culprits = [index for index in left if self.net.nodes[index].layer.type == kind]
        reason = f"OpenCV has no layer {kind}" if culprits else f"OpenCV refuses it: {error}"
        if not culprits:
            culprits = [self._culprit(left)]
            self.starts = self.starts + 1 if culprits[0] == left[0] else 0
        self.cuts |= dict.fromkeys(culprits, reason)
        if self.tries > _MOST_TRIES or self.starts == _MOST_STARTS:
            raise self._no_judge(error)

    def _left(self) -> list[int]:
        """The layers that OpenCV is to run. Raises JudgeError where there is none."""
        nodes = enumerate(self.net.nodes)
        left = [index for index, node in nodes if node.layer.type != "Input" and node.tops and index not in self.cuts]
        if not left:
            raise self._no_judge(next(iter(self.cuts.values()), "it has no layers"))
        return left

    def _no_judge(self, reason: str) -> JudgeError:
        return JudgeError(f"no layer of '{self.net.name}' can be judged by OpenCV: {reason}")

    def _culprit(self, left: list[int]) -> int:
        """The first layer with which OpenCV cannot run the network."""
        fine, bad = -1, len(left) - 1  # places in `left`
        while bad - fine > 1:
            middle = (fine + bad) // 2
            if self._ours(left[middle] + 1)[0].error is None:
                fine = middle
            else:
                bad = middle
        return left[bad]

    def _stand_in(self, node: Node, blob: Blob) -> Floats:
        """What is fed for a blob that OpenCV does not make."""
        if blob not in self.given:
            if self.net.last_versions[blob[0]] == blob[1]:
                self.given[blob] = self.found[blob[0]]
            else:
                before = self.net.nodes[: self.net.nodes.index(node) + 1]
                inner = [one for one in before if one.layer.type != "Input"]
                self.given[blob] = model.part(self.net, inner, {(n, 0): a for n, a in self.inputs.items()}, blob)
        return self.given[blob]

    # -------------------------------------------------------------------------------------------- the text

    def _text(self, count: int) -> tuple[dict[str, Floats], NetParameter]:
        """({input: value}, the first `count` layers) with each version of a blob under its own name, and inputs for what is cut."""
        param, inputs, read = NetParameter(name=self.net.name), dict[str, Floats](), self._read(count)

        def add_input(blob: Blob, array: Floats) -> None:
            name = _name(blob)
            if name not in read:
                return
            layer = param.layer.add(name=name, type="Input", top=[name])
            layer.input_param.shape.add().dim.extend(array.shape)
            inputs[name] = array

        for index, node in enumerate(self.net.nodes[:count]):
            if node.layer.type == "Input":
                for blob in node.tops:
                    add_input(blob, self.inputs[blob[0]])
                continue
            if index in self.cuts:
                for blob, _ in node.made():
                    add_input(blob, self._stand_in(node, blob))
                continue
            layer = LayerParameter.FromString(node.layer.proto.SerializeToString())
            del layer.bottom[:], layer.top[:]
            layer.bottom.extend(_name(blob) for blob in node.bottoms)
            layer.top.extend(_name(blob) for blob in node.tops)
            param.layer.append(layer)
            for top, blob, shape in node.echoes:  # in the same memory, so the same values
                copy = param.layer.add(name=f"{_name(blob)} too", type="Reshape", top=[_name(blob)])
                copy.bottom.append(_name(node.tops[top]))
                copy.reshape_param.shape.dim.extend(int(n or 0) for n in shape)
        return inputs, param

    # -------------------------------------------------------------------------------------------- what it gave

    def _layer(self, node: Node, tried: Tried) -> list[tuple[str, int]]:
        """(OpenCV's name of the layer, top) for each top: OpenCV names some layers after their tops."""
        name = node.layer.name
        if name in tried.layers:
            return [(name, 0 if node.layer.type == "Split" else top) for top in range(len(node.tops))]
        return [(one, 0) for one in (_name(top) if _name(top) in tried.layers else top[0] for top in node.tops)]

    def _tops(self, tried: Tried) -> dict[Blob, list[tuple[Node, NDArray[Any]]]]:
        """{blob: [(the node that makes it, OpenCV's value)]}, one or none."""
        place = {name: index for index, name in enumerate(tried.layers)}
        tops: dict[Blob, list[tuple[Node, NDArray[Any]]]] = {}
        for index, node in enumerate(self.net.nodes):
            if node.layer.type == "Input" or index in self.cuts:
                continue
            for blob, (name, top) in zip(node.tops, self._layer(node, tried), strict=True):
                array = tried.tops.get(f"{place.get(name, -1)}.{top}")
                if array is not None:
                    tops[blob] = [(node, array)]
            for top, blob, _ in node.echoes:
                tops[blob] = tops.get(node.tops[top], [])
        return tops

    def _shaped(self, node: Node, array: NDArray[Any]) -> NDArray[Any]:
        """`array` with Caffe's shape. OpenCV pads detections and proposals with rows of zeros; detection_output_layer.cpp gives
        those that there are, or a row of -1 behind the number of each item."""
        if node.layer.type == "Proposal":
            return array[: max(1, np.count_nonzero(array.reshape(len(array), -1).any(axis=1)))]
        if node.layer.type == "DetectionOutput":
            rows = array.reshape(-1, 7)
            rows = rows[rows.any(axis=1)]
            if not len(rows):
                rows = np.full((node.layer.bottoms[0][0], 7), -1, np.float32)
                rows[:, 0] = np.arange(len(rows))
            return rows[None, None]
        blob = next((self.found[name] for name, _ in node.tops if self.found[name].size == array.size), array)
        return array.reshape(blob.shape)

    def _weights(self, tried: Tried) -> dict[str, list[str]]:
        """{layer: SHA-256 of each blob} of the layers whose blobs OpenCV keeps as they are in the file."""
        found = {}
        for index, node in enumerate(self.net.nodes):
            arrays = self.net.arrays.get(node.layer.name, ())
            said = next((tried.weights.get(name, []) for name, _ in self._layer(node, tried)), [])
            if index not in self.cuts and [size for size, _ in said] == [array.size for array in arrays] and arrays:
                found[node.layer.name] = [digest for _, digest in said]
        return found

    def _unjudged(self, blobs: Mapping[str, Expected]) -> dict[str, str]:
        """{layer: why it is not judged} in net order."""
        last = {blob: self.net.producers[blob, version] for blob, version in self.net.last_versions.items()}
        found = {}
        for index, node in enumerate(self.net.nodes):
            if node.layer.type == "Input" or not node.tops:
                continue
            lacking = [name for name, _ in node.tops if name not in blobs]
            if index in self.cuts:
                found[node.layer.name] = self.cuts[index]
            elif lacking:
                later = last[lacking[0]].layer.name
                changed = f"its blob is changed by '{later}', which is not judged"
                found[node.layer.name] = (
                    changed if later != node.layer.name else f"OpenCV does not give its blob '{lacking[0]}'"
                )
        return found


def _odd(net: Net, path: str) -> bool:
    """Whether OpenCV may take other weights from the file than Caffe, which copies the last layer of a name and, where layers
    share a blob by name, what the last of them has (net.cpp)."""
    source = read_caffemodel(path).net
    every = [*(layer.name for layer in source.layer), *(layer.name for layer in source.layers)]
    names = [name for name in every if name in net.arrays]
    shared = [spec.name for node in net.nodes for spec in node.layer.proto.param if spec.name]
    return len(set(names)) < len(names) or len(set(shared)) < len(shared)


def _name(blob: Blob) -> str:
    return blob[0] if not blob[1] else f"{blob[0]}#{blob[1]}"
