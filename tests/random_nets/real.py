"""What real Caffe gives for samples, where pycaffe is at hand: a folder that holds the package `caffe`."""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.random_nets.sample import Sample

WORKER = Path(__file__).with_name("worker.py")


def blobs_of(
    samples: Sequence[Sample], pycaffe: Path, folder: Path, python: str = "/usr/bin/python3"
) -> Iterator[dict[str, np.ndarray] | str]:
    """For each of `samples` {blob: array} of a forward pass, or the words with which Caffe refuses it.

    `folder` takes their files. One process runs many nets, and a new one goes on after a refusal.
    """
    places = [folder / str(index) for index in range(len(samples))]
    for sample, place in zip(samples, places, strict=True):
        sample.write(place)
        (place / "blobs.npz").unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(pycaffe.resolve()), "GLOG_minloglevel": "2", "OMP_NUM_THREADS": "1"}
    left, refused = list(places), {}
    while left:
        done = subprocess.run(
            [python, str(WORKER)],
            input="\n".join(map(str, left)),
            env=environment | {"OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        finished = sum((place / "blobs.npz").exists() for place in left)
        if finished < len(left):
            words = (
                re.findall(r"(?:F\d{8} .*?\] |\[libprotobuf ERROR )(.*)", done.stderr) or done.stderr.splitlines()[-1:]
            )
            refused[left[finished]] = " / ".join(words) or f"ended with {done.returncode}"
        left = left[finished + 1 :]
    for place in places:
        yield refused[place] if place in refused else dict(np.load(place / "blobs.npz"))
