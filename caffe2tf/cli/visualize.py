"""`caffe2tf visualize`: filters, feature maps and the graph of a network as pictures, or all as one page."""

from collections.abc import Sequence
from typing import Any, Literal

import click

from caffe2tf.cli import options, sections, terminal

PLACE = 7


@click.group(short_help="Draw filters, what layers make of a picture, the graph, or all.")
def command() -> None:
    """Draw a network: its filters, what it makes of a picture, its graph, or all of that as one page.

    The suffix of -o chooses .png, .svg or .pdf; the page is .html. Layers have Caffe's names, as `caffe2tf inspect` lists
    them. A network text stands before or after MODEL, or after -p.

    \b
    Examples:
      caffe2tf visualize filters squeezenet.caffemodel conv1
      caffe2tf visualize activations squeezenet.caffemodel cat.jpg conv1 fire2/concat
      caffe2tf visualize graph squeezenet.caffemodel
      caffe2tf visualize all squeezenet.caffemodel cat.jpg -o squeezenet.html
    """


_picture = sections.writing(
    "-o", "--out", metavar="PICTURE", help="Where to.  [default: made of the names, in this folder]"
)
_page = sections.writing(
    "-o", "--out", metavar="FILE.html", help="Where to.  [default: made of the names, in this folder]"
)


@command.command("filters", cls=sections.Command)
@click.argument("model", type=options.NETWORK)
@click.argument("arguments", nargs=-1, metavar="[PROTOTXT] LAYER", shell_complete=sections.layers)
@options.prototxt
@sections.writing(
    "--group",
    type=click.IntRange(1),
    metavar="N",
    help="Which group of a layer whose channels are grouped.  [default: 1]",
)
@sections.writing(
    "--first",
    type=click.IntRange(1),
    metavar="N",
    help="How many channels of each side.  [default: 32 of a deep layer]",
)
@_picture
@options.everyday
def filters(
    model: str,
    arguments: tuple[str, ...],
    prototxt: str | None,
    group: int | None,
    first: int | None,
    out: str | None,
    **everyday: Any,
) -> None:
    """Draw the filters of LAYER as tiles.

    Those of a first layer are in colour. Deeper ones are a table: a row for each output channel, a column for each input channel, one group at a time.

    \b
    Example:
      caffe2tf visualize filters bvlc_alexnet.caffemodel conv2 --group 2
    """
    from caffe2tf.net import names

    text, model, rest = options.leading([model, *arguments], prototxt)
    (layer,) = _named(rest, "LAYER")
    out = out or f"{options.stem(model)}-{names.plain(layer)}{f'-group{group}' if group else ''}.png"
    _draw("filters", out, text, model, None, [layer], (group, first), **everyday)


@command.command("activations", cls=sections.Command)
@click.argument("model", type=options.NETWORK)
@click.argument("arguments", nargs=-1, type=options.FILE, metavar="[PROTOTXT] IMAGE LAYER...")
@options.prototxt
@_picture
@options.device
@options.everyday
def activations(
    model: str,
    arguments: tuple[str, ...],
    prototxt: str | None,
    out: str | None,
    device: str,
    **everyday: Any,
) -> None:
    """Draw what each LAYER makes of IMAGE.

    Feature maps are tiles, the picture stands beside them. A layer that is changed in place is drawn as it is afterwards.

    \b
    Example:
      caffe2tf visualize activations squeezenet.caffemodel cat.jpg conv1 fire2/concat
    """
    text, model, rest = options.leading([model, *arguments], prototxt)
    image, *layers = _named(rest, "IMAGE", "LAYER...")
    out = out or f"{options.stem(model)}-{options.stem(image)}.png"
    _draw("activations", out, text, model, image, layers, device=device, **everyday)


@command.command("graph", cls=sections.Command)
@click.argument("model", type=options.NETWORK)
@click.argument("text", type=options.NETWORK, required=False, metavar="[PROTOTXT]")
@options.prototxt
@_picture
@options.everyday
def graph(
    model: str,
    text: str | None,
    prototxt: str | None,
    out: str | None,
    **everyday: Any,
) -> None:
    """Draw the network from its inputs down.

    Boxes say layers, types, output shapes and parameters. MODEL may be a network text. Layers that work in place stand in the box of the layer that they change.

    \b
    Example:
      caffe2tf visualize graph deploy.prototxt -o network.svg
    """
    text, model, _ = options.leading([model, *([text] if text else [])], prototxt)
    out = out or f"{options.stem(model)}-graph.svg"
    _draw("graph", out, text, model, **everyday)


@command.command("all", cls=sections.Command)
@click.argument("model", type=options.NETWORK)
@click.argument("arguments", nargs=-1, type=options.FILE, metavar="[PROTOTXT] IMAGE")
@options.prototxt
@_page
@options.device
@options.everyday
def everything(
    model: str,
    arguments: tuple[str, ...],
    prototxt: str | None,
    out: str | None,
    device: str,
    **everyday: Any,
) -> None:
    """Write all of that as one page.

    Top classes, first filters, what every convolution and pooling makes of IMAGE, and the graph; nothing outside the file.

    \b
    Example:
      caffe2tf visualize all squeezenet.caffemodel cat.jpg -o squeezenet.html
    """
    text, model, rest = options.leading([model, *arguments], prototxt)
    (image,) = _named(rest, "IMAGE")
    out = out or f"{options.stem(model)}-{options.stem(image)}.html"
    _draw("all", out, text, model, image, device=device, **everyday)


def _named(rest: list[str], *wanted: str) -> list[str]:
    """`rest`, one argument for each of `wanted`, or more where the last ends with dots. Raises UsageError."""
    if len(rest) < len(wanted):
        raise click.UsageError(f"Missing argument '{wanted[len(rest)]}'.")
    if len(rest) > len(wanted) and not wanted[-1].endswith("..."):
        raise click.UsageError(f"Got unexpected extra argument ({' '.join(rest[len(wanted) :])})")
    return rest


def _draw(
    what: Literal["filters", "activations", "graph", "all"],
    out: str,
    text: str | None,
    model: str,
    image: str | None = None,
    layers: Sequence[str] = (),
    part: tuple[int | None, int | None] = (None, None),
    device: str = "auto",
    *,
    input_shape: options.Shapes,
    outputs: options.Outputs,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    from caffe2tf import formats, loading
    from caffe2tf.drawing import visualize as visualizing
    from caffe2tf.files import replacing as files

    kind = None if what == "all" else visualizing.kind_of(out)
    formats.check_targets([out], force, sources=[path for path in (model, image, text) if path])
    pair = loading.told_apart([model]) if text is None else (text, model)
    with terminal.hushed(verbose), terminal.notes(verbose and not quiet):
        net = loading.load(prototxt=pair[0], model=pair[1], input_shape=input_shape, outputs=outputs)
    count = visualizing.count(net, what)
    hush = terminal.hushed(verbose or image is None)
    with terminal.progress(options.name(out), count, quiet or image is None, count=True) as step, hush:
        data = visualizing.visualize(
            net, what, image=image, layers=layers, group=part[0], first=part[1], kind=kind, device=device, step=step
        )
    files.write_bytes(out, data, force)
    options.written(out, len(data), quiet)
