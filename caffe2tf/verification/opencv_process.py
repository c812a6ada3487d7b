"""OpenCV in a process of its own: a crash in it is an answer like others."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf.arrays import numbers
from caffe2tf.arrays.layout import Floats
from caffe2tf.verification import opencv_worker
from caffe2tf.verification.sets import JudgeAbsent

_INSTALL = "install opencv-python-headless 4.8 or newer, below 5: pip install 'caffe2tf[opencv]'"


@dataclass(frozen=True)
class Tried:
    """What came of a run: why it could not compute, `error`, or None; then its layers' names, {layer: [[size, SHA-256] of each of
    its blobs]}, and {"I.T": top T of the layer with index I}."""

    version: str
    error: str | None
    layers: tuple[str, ...] = ()
    weights: Mapping[str, list[tuple[int, str]]] = field(default_factory=dict)
    tops: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def run(folder: str, text: str, weights: str | None, inputs: Mapping[str, Floats]) -> Tried:
    """Runs the network of the files `text` and `weights` on `inputs`, with files of its own in `folder`.

    Raises JudgeAbsent where there is no OpenCV that reads Caffe's files.
    """
    with open(os.path.join(folder, "job.json"), "w", encoding="utf-8", newline="\n") as file:
        paths = {"text": os.path.abspath(text), "weights": weights and os.path.abspath(weights)}
        json.dump({**paths, "inputs": list(inputs)}, file)
    np.savez(os.path.join(folder, "inputs.npz"), *inputs.values())
    result = os.path.join(folder, "result.json")
    if os.path.exists(result):
        os.remove(result)
    # It finds the modules that this process finds, and none in the working folder.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, opencv_worker.__file__, folder]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=folder)
    if not os.path.exists(result):
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        return Tried("4", f"it ends itself with {how}")
    with open(result, encoding="utf-8") as file:
        said = json.load(file)
    if said["version"] is None:
        raise JudgeAbsent(f"{said['error']}; {_INSTALL}")
    if said.get("unfit"):
        raise JudgeAbsent(f"OpenCV {said['version']} {said['error']}; {_INSTALL}")
    if "error" in said:
        return Tried(said["version"], _reason(said["error"]))
    tops = dict(numbers.read_npz(os.path.join(folder, "blobs.npz")))
    return Tried(said["version"], None, tuple(said["layers"]), said["weights"], tops)


def _reason(error: str) -> str:
    """OpenCV's words in one line, without where in its sources."""
    text = " ".join(line.strip("> ") for line in error.splitlines() if line.strip("> "))
    text = re.sub(r"^OpenCV\([^)]*\) \S+ error: \(-?\d+:([^)]*)\) ", r"\1: ", text)
    text = re.sub(r" in function '[^']*'", "", text)
    return re.sub(r"^Unspecified error:? *", "", text)[:200]
