"""Does finetune do well without tuning? `python -m tests.bench.small_sets [SEEDS [SET ...]]`.

Five small sets, a new head on the trained SqueezeNet with all settings as they are by default, beside scikit-learn's
LogisticRegression (C=1) on the same features of the same training pictures: the accuracy on a fifth that neither saw. Flowers and
cats and dogs are CAFFE2TF_SHARED's; `five` has five pictures of each flower (four to learn from, one to choose the epoch by),
`imbalanced` five of every other flower and all of the others; the digits come with the package.
"""

import os
import sys
import tempfile
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

import caffe2tf
from caffe2tf import loading
from caffe2tf.finetuning import batches, data, heads, plan, rows, trainer, training
from caffe2tf.finetuning import features as computed
from caffe2tf.finetuning.checkpoint import Checkpoint
from caffe2tf.finetuning.placement import placed
from caffe2tf.finetuning.settings import Stage
from caffe2tf.images import preprocess
from caffe2tf.net.net import Net
from tests.helpers import SHARED

SETS = ("flowers", "five", "cats_dogs", "imbalanced", "digits")
HEAD = "conv_final"
Features = tuple[Net, NDArray[np.float32], data.Pictures]


def features(name: str, folder: str) -> Features:
    """(the network, what its head reads of every picture, the pictures)."""
    models = SHARED / "models" / "squeezenet_v1.0"
    files = models / "deploy.prototxt", models / "squeezenet_v1.0.caffemodel"
    if name == "digits":
        caffe2tf.sample("digits", os.path.join(folder, "digits"))
        pictures = data.read(os.path.join(folder, "digits"))
        net = preprocess.changed(loading.load(*files, input_shape={None: (1, 3, 96, 96)}), resize=(96, 96), crop="none")
    else:
        path = SHARED / ("cats_dogs" if name == "cats_dogs" else "flowers17")
        pictures, net = data.read(str(path), labels_from_names=name == "cats_dogs"), loading.load(*files)
    how, _ = preprocess.of(net)
    images = rows.Decoded(pictures.sources, how, strict=True)
    net, _, _ = plan.with_head(net, len(pictures.classes), HEAD)
    work = plan.make(net, HEAD, [HEAD])
    assert work.base is not None
    return (
        net,
        computed.computed(work.base, work.frontier, images, how)[0],
        replace(pictures, sources=_numbered(pictures)),
    )


def _numbered(pictures: data.Pictures) -> tuple[str, ...]:
    return tuple(map(str, range(len(pictures))))


def fewer(pictures: data.Pictures, counts: dict[int, int], seed: int) -> data.Pictures:
    """At most `counts` {class: pictures} of each class."""
    random, kept = np.random.RandomState(seed), []
    for label in range(len(pictures.classes)):
        kept += random.permutation(np.flatnonzero(pictures.labels == label))[: counts.get(label)].tolist()
    return pictures.take(sorted(kept))


def accuracies(name: str, given: Features, seed: int) -> tuple[float, float]:
    """(finetune's, logistic regression's) accuracy on the fifth that is kept back with `seed`."""
    net, store, pictures = given
    rest, kept = data.split(pictures, (0.8, 0.2), 100 + seed)
    count = len(pictures.classes)
    if name == "five":
        rest = fewer(rest, dict.fromkeys(range(count), 5), seed)
    elif name == "imbalanced":
        rest = fewer(rest, dict.fromkeys(range(1, count, 2), 5), seed)
    sets = [
        batches.Examples([store[np.array(part.sources, int)]], part.labels)
        for part in (*data.split(rest, (0.8, 0.2), seed), kept)
    ]
    stage, work, history = Stage((HEAD,)), plan.make(net, HEAD, [HEAD]), list[dict[str, Any]]()
    with placed("cpu") as place, tempfile.TemporaryDirectory() as folder:
        keep = Checkpoint(folder)
        spread, weights = heads.spread(work, stage, sets[0], place), heads.weights(stage, sets[0], count)
        learner = trainer.Trainer(work, stage, place, seed, spread, weights)
        training.train(learner, (sets[0], sets[1]), (seed, 1), keep, None, history)
        best = keep.load("best-1")
        assert best is not None
        learner.go_back(best[0])
        found = learner.evaluate(sets[2])[1]
    means = [one.arrays[0].mean((1, 2)) for one in sets]
    judge = LogisticRegression(max_iter=3000).fit(means[0], sets[0].labels)
    return found, float(judge.score(means[2], sets[2].labels))


def main(seeds: int = 3, *names: str) -> None:
    print(f"{'set':12} {'finetune':>8} {'logistic':>8} {'points':>7}")
    with tempfile.TemporaryDirectory() as folder:
        known: dict[str, Features] = {}
        for name in names or SETS:
            kind = "flowers" if name in ("five", "imbalanced") else name
            if kind not in known:
                known[kind] = features(kind, folder)
            ours, theirs = np.mean([accuracies(name, known[kind], seed) for seed in range(seeds)], 0)
            print(f"{name:12} {ours:8.4f} {theirs:8.4f} {100 * (ours - theirs):+7.2f}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])
