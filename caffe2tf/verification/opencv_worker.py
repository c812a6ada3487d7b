"""Runs a network in OpenCV, in a process of its own: what ends OpenCV with a signal ends this process alone.

Called by `opencv.py` as a script with one folder, which holds `job.json` {"text", "weights" (a path or null), "inputs":
names} and `inputs.npz`, their arrays in this order. Leaves there `result.json`, {"version", "layers": names, "weights": {layer: [[size, SHA-256 of
little-endian float32] of each blob]}} or {"version", "error"}, and `blobs.npz`: {"I.T": top T of the layer with index I}.
"""

import hashlib
import json
import os
import sys
from typing import Any

FIRST, LAST = 4, 4  # OpenCV 5 reads Caffe's files no more


def run(folder: str) -> dict[str, Any]:
    """What stands in `result.json`."""
    os.environ["OPENCV_DNN_DISABLE_MEMORY_OPTIMIZATIONS"] = "1"  # else later layers may overwrite all tops but a first
    try:
        import cv2
    except ImportError as error:
        return {"version": None, "error": f"OpenCV cannot be imported: {error}"}
    version = str(cv2.__version__)
    if not FIRST <= int(version.split(".")[0]) <= LAST or not hasattr(cv2.dnn, "readNetFromCaffe"):
        return {"version": version, "error": "reads no Caffe files", "unfit": True}
    try:
        return {"version": version, **_computed(cv2, folder)}
    except cv2.error as error:
        return {"version": version, "error": str(error)}


def _computed(cv2: Any, folder: str) -> dict[str, Any]:
    import numpy as np

    with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
        job = json.load(file)
    net = cv2.dnn.readNetFromCaffe(job["text"], *([job["weights"]] if job["weights"] else []))
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    net.enableFusion(False)  # every layer's own result, not that of LRN and pooling in one
    if hasattr(net, "enableWinograd"):
        net.enableWinograd(False)  # its sums are exact to some 1e-5 only
    with np.load(os.path.join(folder, "inputs.npz"), allow_pickle=False) as arrays:
        for key, name in zip(arrays.files, job["inputs"], strict=True):
            net.setInput(arrays[key], name)
    layers = list(net.getLayerNames())
    weights = {name: [_digest(np.asarray(blob, "<f4")) for blob in net.getLayer(name).blobs] for name in layers}
    tops = net.forwardAndRetrieve(layers)
    found = {f"{i}.{t}": top for i, several in enumerate(tops) for t, top in enumerate(several)}
    np.savez(os.path.join(folder, "blobs.npz"), **found)
    return {"layers": layers, "weights": weights}


def _digest(array: Any) -> tuple[int, str]:
    return array.size, hashlib.sha256(array.tobytes()).hexdigest()


if __name__ == "__main__":
    result = run(sys.argv[1])
    unfinished = os.path.join(sys.argv[1], "unfinished.json")  # OpenCV may end the process until the last moment
    with open(unfinished, "w", encoding="utf-8", newline="\n") as out:
        json.dump(result, out)
    os.replace(unfinished, os.path.join(sys.argv[1], "result.json"))
