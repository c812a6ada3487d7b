"""Help by purpose, and completion of values: commands whose options stand under headings, and what a shell offers for them."""

import os
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

_NOTED = (".keras", ".tflite", "caffe2tf.json")  # what is read without TensorFlow, which would keep a shell waiting
Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Complete = Callable[[click.Context, click.Parameter, str], list[str]]

HEADINGS = "Options", "Input", "Pictures", "Training", "Output", "Running"


class Option(click.Option):
    """An option that stands under `heading`, one of HEADINGS, in the help."""

    def __init__(self, *args: Any, heading: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.heading = heading


def _under(heading: str) -> Callable[..., Callable[[Decorated], Decorated]]:
    """click.option for options under `heading`."""
    return lambda *names, **settings: click.option(*names, cls=Option, heading=heading, **settings)


reading, picturing, training, writing, running = map(_under, HEADINGS[1:])


class Command(click.Command):
    """A command whose help lists its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes HEADINGS in their order, and under each its options in theirs."""
        found: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
        for param in self.get_params(ctx):
            record = None if isinstance(param, click.Argument) else param.get_help_record(ctx)
            if record is not None:
                heading = "Running" if "--help" in param.opts else getattr(param, "heading", HEADINGS[0])
                found[heading].append(record)
        for heading, records in found.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def offered(names: Callable[[], Iterable[str]]) -> Complete:
    """What completes a value, or the last of several with commas between, with some of `names()`."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        before, comma, start = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(start)]

    return complete


def formats() -> list[str]:
    """The names of all formats."""
    from caffe2tf import formats as known

    return known.names()


def devices() -> list[str]:
    """What `--device` takes, for a first GPU."""
    return ["auto", "cpu", "gpu", "gpu:0"]


def layers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The layers with weights of the network that was typed; every layer for an argument."""
    return _of_network(ctx, incomplete, blobs=False, weighted=isinstance(param, click.Option))


def blobs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The blobs of the network that was typed."""
    return _of_network(ctx, incomplete, blobs=True)


def _of_network(ctx: click.Context, incomplete: str, blobs: bool, weighted: bool = False) -> list[str]:
    """Names in the network of the files that stand in the line; nothing where they are no network, for a shell wants no errors."""
    from caffe2tf import formats as known
    from caffe2tf import loading
    from caffe2tf.errors import Caffe2TFError
    from caffe2tf.formats import _note
    from caffe2tf.images import notes

    typed = [*_texts(ctx.params.get("model")), *_texts(ctx.params.get("text")), *_texts(ctx.params.get("arguments"))]
    text = ctx.params.get("prototxt")
    files = [file for file in map(_telling, typed) if os.path.isfile(file)][:2]
    try:
        if not files:
            files = [_telling(known.model_here())]
        if files[0].lower().endswith(_NOTED):
            net = _note.network(notes.noted_in(files[0]), files[0])
        else:
            pair = (text, files[0]) if text else loading.told_apart(files)
            net = loading.load(prototxt=pair[0], model=pair[1])
    except (Caffe2TFError, OSError):
        return []
    before, comma, start = incomplete.rpartition(",")
    names = list(net.blobs) if blobs else [node.layer.name for node in net.nodes if node.layer.type != "Input"]
    names = [name for name in names if not weighted or name in net.weight_shapes]
    return [f"{before}{comma}{name}" for name in [*names, *(["all"] * weighted)] if name.startswith(start)]


def _telling(path: str) -> str:
    """The file that soonest tells the network of a model: of a folder one in it."""
    inside = (os.path.join(path, name) for name in ("deploy.prototxt", "best.keras", "assets.extra/caffe2tf.json"))
    return next(filter(os.path.isfile, inside), path)


def _texts(value: object) -> list[str]:
    return [value] if isinstance(value, str) else [one for one in value if one] if isinstance(value, tuple) else []
