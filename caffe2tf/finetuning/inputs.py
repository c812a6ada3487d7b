"""What a Recipe starts from: the network, the pictures of each set, and where an earlier run of it stopped."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from caffe2tf import loading
from caffe2tf.caffe.read import is_text
from caffe2tf.finetuning import checkpoint, data, placement, recipe
from caffe2tf.finetuning.settings import Recipe, RecipeError, text_of
from caffe2tf.formats._trained import label_names
from caffe2tf.images import preprocess
from caffe2tf.net.fillers import start
from caffe2tf.net.net import Net


def find_data(path: str | None) -> str:
    """`path`, or train.txt or train/ in this folder. Raises DataError with what to type."""
    if path is not None:
        return path
    for name in ("train.txt", "train"):
        if os.path.exists(name):
            return name
    raise data.DataError(
        "no data here (neither train.txt nor train/); name it: `data` LIST.txt, a folder per class, or TFRecords"
    )


def starts_afresh(run: Recipe) -> bool:
    """Whether the network of a Recipe is a text alone, whose weights start from its fillers. Raises RecipeError."""
    if run.model is None:
        raise RecipeError("the recipe names no network; give its file as `model`")
    return not os.path.isdir(run.model) and is_text(run.model)


def network(run: Recipe) -> Net:
    """The Net of a Recipe: weights and text, or a text alone, whose weights start from its fillers."""
    if starts_afresh(run):
        if run.prototxt:
            raise RecipeError(
                f"{run.model} is a network text and starts from its fillers; `prototxt` has no part in it"
            )
        text = loading.load(prototxt=run.model, input_shape=run.input_shape, outputs=run.outputs)
        net = replace(start(text, run.seed), files=text.files)
    else:
        net = loading.load(prototxt=run.prototxt, model=run.model, input_shape=run.input_shape, outputs=run.outputs)
    said = {key: getattr(run, key) for key in ("resize", "crop", "mean", "scale", "channels")}
    return preprocess.changed(net, **said)


def head(paths: Mapping[str, Any], said: object) -> str:
    """The layer of the network of a Recipe's `paths` that gives the classes, for who names no layer: the one `said`, else the last
    with weights. Raises Caffe2TFError for a network that cannot be read."""
    files = {"prototxt": paths["prototxt"], "model": paths["model"]}
    if files["model"] and not os.path.isdir(files["model"]) and is_text(files["model"]):
        files = {"prototxt": files["model"], "model": None}
    net = loading.load(**files, input_shape=paths["input_shape"], outputs=paths["outputs"])
    return str(said or next(reversed(net.weight_shapes), "all"))


def parts(run: Recipe) -> tuple[data.Pictures, data.Pictures, data.Pictures | None]:
    """(training, validation, test or None) Pictures of a Recipe: from files of their own, or split off."""
    named = tuple(label_names(run.labels)) if run.labels else None
    pictures = data.read(find_data(run.data), run.labels_from_names, named)
    test = data.read(run.test, run.labels_from_names, pictures.classes) if run.test else None
    if run.val is not None:
        if run.split != Recipe.split:
            raise data.DataError(f"`split` {text_of(run.split)} and `val` {run.val}: the sets are split already")
        return pictures, data.read(run.val, run.labels_from_names, pictures.classes), test
    if test is not None:
        if len(run.split) > 2:
            raise data.DataError(
                f"`split` {text_of(run.split)} and `test` {run.test}; a test set of its own leaves two shares"
            )
        training, validation = data.split(pictures, run.split, run.seed)
        return training, validation, test
    split = data.split(pictures, run.split, run.seed)
    return split[0], split[1], split[2] if len(split) > 2 else None


def check_classes(name: str, part: data.Pictures) -> None:
    """Raises DataError for a class without pictures to train or to judge by."""
    counts = part.counts()
    if name != "test" and not all(counts.values()):
        raise data.DataError(
            f"the {name} set has no picture of class '{min(counts, key=counts.__getitem__)}' that can be read"
        )


def recall(out: str, typed: Recipe | None) -> Recipe | None:
    """The Recipe in the results folder `out`, which `typed`, a Recipe or None, must equal; None where the run is finished.
    Raises RecipeError."""
    if typed and placement.worker():
        return typed  # the chief alone knows where the run stands, and tells
    unfinished = os.path.join(out, checkpoint.FOLDER, recipe.FILE)
    path = unfinished if os.path.exists(unfinished) else os.path.join(out, recipe.FILE)
    if not os.path.exists(path):
        raise RecipeError(f"{out}: holds no {recipe.FILE}, so there is nothing to resume; leave `resume` out to start")
    kept = recipe.read(path)
    if typed and (other := recipe.difference(kept, typed)):
        raise RecipeError(
            f"{out}: is of another run, with {other}; name another folder with `out`, or type its settings"
        )
    return kept if path == unfinished else None
