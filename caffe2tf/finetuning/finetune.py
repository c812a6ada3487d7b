"""Fine-tuning as one call."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from caffe2tf import formats, loading
from caffe2tf.finetuning import inputs, placement, results, solving, telling
from caffe2tf.finetuning import recipe as recipes
from caffe2tf.finetuning import run as running
from caffe2tf.finetuning.settings import Recipe, RecipeError
from caffe2tf.keras_model import device as devices
from caffe2tf.net.outputs import checked

_LOG = logging.getLogger("caffe2tf")
Setting = str | float | bool | os.PathLike[str] | Sequence[str] | Sequence[float] | None
Bar = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]


def finetune(
    model: loading.Path | None = None,
    prototxt: loading.Path | None = None,
    *,
    out: loading.Path = "finetuned",
    stages: Sequence[Mapping[str, Setting]] = (),
    recipe: Recipe | loading.Path | None = None,
    resume: bool = False,
    force: bool = False,
    device: str = "auto",
    input_shape: loading.InputShape | None = None,
    outputs: str | Sequence[str] | None = None,
    say: Callable[[str], object] = _LOG.info,
    bar: Bar | None = None,
    hushed: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    callbacks: Sequence[object] = (),
    **settings: Setting,
) -> float | None:
    """Trains a new head, or any layers, of a network on pictures; returns the accuracy on the test set, or on the validation
    set where there is none; None on a worker that writes nothing, and for a run that is finished already.

    `model`, `prototxt`: the files of the network in either order, a network text alone to start from its fillers; without
    them the only model in this folder. `settings`: the fields of settings.Stage and settings.Recipe by name, as values
    (`layers=["fc8"]` or `"all"`, `data="flowers"`, `epochs=30`, `lr=1e-3`, `split=(0.8, 0.1, 0.1)`, `resize=(256, 256)`, height
    first, `mean=(104, 117, 123)` in the order of the input) or as the texts that the command takes; each of `stages` changes
    some of those of Stage for a stretch of its own. `recipe`: all of that as a Recipe or its TOML file, instead.
    `out`: the folder of the results, as the README lists them; what a run wrote there is replaced with `force`, and gone on
    with after a stop with `resume`. `device`: "auto", "cpu", "gpu", "gpu:N" or several with commas between. `input_shape`:
    {input or None: (N, C, H, W)}; `outputs`: the blobs that the network is cut to before a head is placed, as `load` has it.
    `say` gets lines on what is done, by default logged to "caffe2tf"; `bar(what, total)` makes a context whose value is called
    with the number of pieces done; TensorFlow starts inside `hushed()`. `callbacks`: keras.callbacks.Callback objects for every
    stage, told of epochs with `loss`, `accuracy`, `val_loss`, `val_accuracy` and `learning_rate`, and of batches without; they may
    end a stage by `model.stop_training`.
    Raises RecipeError for settings, Caffe2TFError for files, Stopped after Ctrl-C or SIGTERM.
    """
    folder, stated = os.fspath(out), any(part for part in (model, prototxt, stages, input_shape, outputs, settings))
    if recipe is not None and stated:
        raise RecipeError("`recipe` says all settings; model, `stages` and others have no part beside it")
    if resume and force:
        raise RecipeError("`resume` goes on with what `force` would replace")
    made: Recipe | None = None
    if recipe is not None:
        made = recipe if isinstance(recipe, Recipe) else recipes.read(os.fspath(recipe))
        made = replace(made, model=made.model or formats.model_here(), data=inputs.find_data(made.data))
    elif stated or not resume:
        text, weights = loading.told_apart([file for file in (model, prototxt) if file is not None])
        solver = settings.get("solver")
        if solver is not None and text is None:
            text = solving.network(str(solver))
        if model is None and solver is None:
            weights = formats.model_here()
        elif weights is None:  # a network text alone starts from its fillers
            text, weights = None, text
        paths: dict[str, object] = {"model": weights, "prototxt": text, "input_shape": input_shape}
        paths["outputs"] = None if outputs is None else checked(outputs)
        data = settings.get("data")
        paths["data"] = inputs.find_data(None if data is None else str(data))
        made = recipes.of({**settings, **paths}, stages, lambda: inputs.head(paths, settings.get("head")))
    if resume:
        made = inputs.recall(folder, made)
    if made is None:
        say(f"{folder}: the run is finished, there is nothing to go on with")
        return None
    with contextlib.ExitStack() as stack:
        begun = time.monotonic()
        with hushed():
            place = stack.enter_context(placement.placed(device, made.precision))
        if place.chief:
            results.check_folder(folder, force, resume)  # before pictures are read
        if place.chief:
            say(f"starting {devices.library(devices.foreseen())}: {telling.seconds(time.monotonic() - begun)}")
        run = running.Run(made, place, say if place.chief else lambda line: None, bar, callbacks)
        accuracy: float | None = run.train(folder, force, resume)
        return accuracy
