"""How closely a run follows Caffe's solvers: `python -m tests.bench.solvers [NAME ...]`.

Each of the recorded solvers in golden/training, 60 iterations on the MNIST digits of CAFFE2TF_SHARED in the order of their file;
prints the largest difference of a loss and of a weight to what Caffe 1.0 computed. Two of them are chaotic (the folder's
README) and are compared over their first 15 losses.
"""

import gzip
import sys
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from caffe2tf import loading
from caffe2tf.finetuning import batches, plan, recipe, trainer
from caffe2tf.finetuning.placement import placed
from caffe2tf.finetuning.walk import Walk
from tests.helpers import GOLDEN, SHARED

FOLDER = GOLDEN / "training"
NAMES = sorted(path.stem.removeprefix("solver_") for path in FOLDER.glob("solver_*.prototxt"))
CHAOTIC = {"sgd_clip": 15, "sgd_sigmoid": 15}
BATCH = 32


def digits(shared: Path, iterations: int, twice: bool) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """(pictures (N, 28, 28, 1) from 0 to 1, labels) of so many batches, each of them `twice` where a step takes two."""
    with gzip.open(shared / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(shared / "mnist" / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    places = np.arange(BATCH * iterations) % len(labels)
    if twice:
        places = np.repeat(places.reshape(-1, 1, BATCH), 2, 1).ravel()
    return images[places] * np.float32(0.00390625), labels[places].astype(np.int32)


def follow(name: str, shared: Path) -> tuple[float, float]:
    """(the largest difference of a loss, of a weight after the last update) from what Caffe recorded for the solver `name`."""
    text, start = FOLDER / "train.prototxt", FOLDER / "start.caffemodel"
    made = recipe.of({"solver": FOLDER / f"solver_{name}.prototxt", "prototxt": text, "model": start, "order": "file"})
    (stage,) = made.stages
    assert stage.solver is not None
    images, labels = digits(shared, stage.solver.max_iter, stage.solver.iter_size == 2)
    walk, losses = Walk.of(stage, len(labels)), []
    with placed("cpu") as place:
        examples = batches.Examples(
            [images], labels, held=(keras.ops.convert_to_tensor(images),) if place.holds else ()
        )
        learner = trainer.Trainer(plan.make(loading.load(text, start), "ip2", stage.layers or ()), stage, place)
        for number in range(walk.rounds):
            order = walk.order(number, (0, 1))
            steps = batches.dataset(examples, walk.batch, key=(0, 1, number), order=order)
            losses += [seen[0] for seen in learner.seen([learner.step(batch, examples.held) for batch in steps])]
        arrays = learner.net().arrays
    with np.load(FOLDER / "expected.npz") as expected:
        compared = CHAOTIC.get(name, len(losses))
        loss = np.abs(np.array(losses) - expected[f"{name}/loss"])[:compared].max()
        weights = [
            np.abs(
                (array.ravel()[::7] if array.size >= 2000 else array.ravel()) - expected[f"{name}/{layer}/{k}"].ravel()
            )
            for layer in ("conv1", "conv2", "ip1", "ip2")
            for k, array in enumerate(arrays[layer])
        ]
    return float(loss), float(max(map(np.max, weights)))


def main(names: list[str]) -> None:
    print(f"{'solver':14} {'loss':>8} {'weight':>8}")
    for name in names or NAMES:
        loss, weight = follow(name, SHARED)
        print(f"{name:14} {loss:8.1e} {weight:8.1e}")


if __name__ == "__main__":
    main(sys.argv[1:])
