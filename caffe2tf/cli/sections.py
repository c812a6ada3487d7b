"""Help by purpose, and completion of values: commands whose options stand under headings, and what a shell offers for them."""

import os
from collections.abc import Callable, Iterable

import click

Complete = Callable[[click.Context, click.Parameter, str], list[str]]

# Which options stand under which heading; an option that is not listed stands under "Options".
_SECTIONS = {
    "Input": "prototxt input_shape outputs plugin trust original diff data val test split labels labels_from_names strict recipe "
    "truth images sets against head solver shard",
    "Pictures": "resize crop mean scale channels crops augment order",
    "Training": "layers stages epochs batch_size lr head_lr schedule optimizer momentum weight_decay dropout label_smoothing clip "
    "lr_mult class_weights patience seed cache",
    "Output": "out outs folder to npy_layout quantize calibrate folding preprocessing page plot confusion as_csv as_json top threshold group first keep "
    "no_tensorboard listing resume force",
    "Running": "device precision yes fast quiet verbose version help",
}
_HEADING = {name: heading for heading, names in _SECTIONS.items() for name in names.split()}


class Command(click.Command):
    """A command whose help lists its options under headings, where it has more than a few."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the headings in the order above, and under each its options in theirs."""
        found: dict[str, list[tuple[str, str]]] = {heading: [] for heading in ("Options", *_SECTIONS)}
        for param in self.get_params(ctx):
            record = None if isinstance(param, click.Argument) else param.get_help_record(ctx)
            if record is not None:
                name = "help" if "--help" in param.opts else param.name or ""
                found[_HEADING.get(name, "Options")].append(record)
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

    typed = [*_texts(ctx.params.get("model")), *_texts(ctx.params.get("text")), *_texts(ctx.params.get("arguments"))]
    text = ctx.params.get("prototxt")
    files = [file for file in typed if os.path.isfile(file) and not file.lower().endswith((".keras", ".tflite"))][:2]
    try:
        if not files:
            files = [known.model_here()]
        pair = (text, files[0]) if text else loading.told_apart(files)
        net = loading.load(prototxt=pair[0], model=pair[1])
    except (Caffe2TFError, OSError):
        return []
    before, comma, start = incomplete.rpartition(",")
    names = list(net.blobs) if blobs else [node.layer.name for node in net.nodes if node.layer.type != "Input"]
    names = [name for name in names if not weighted or name in net.weight_shapes]
    return [f"{before}{comma}{name}" for name in [*names, *(["all"] * weighted)] if name.startswith(start)]


def _texts(value: object) -> list[str]:
    return [value] if isinstance(value, str) else [one for one in value if one] if isinstance(value, tuple) else []
