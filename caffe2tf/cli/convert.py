"""`caffe2tf convert`: the weights, or the whole network, in other formats."""

import math
from typing import TYPE_CHECKING, Any

import click

from caffe2tf.cli import options, terminal

if TYPE_CHECKING:
    from caffe2tf.net.net import Net

PLACE = 1


@click.command(short_help="Write the weights, or the whole network, in other formats.")
@click.argument("model", type=options.NETWORK)
@click.argument("text", type=options.NETWORK, required=False, metavar="[PROTOTXT]")
@options.prototxt
@click.option(
    "-o", "--out", "outs", multiple=True, metavar="OUT", help="Where to; the suffix is the format. Repeatable."
)
@click.option("--to", metavar="FORMAT", help="The format, where the suffix does not tell it.")
@click.option(
    "--npy-layout",
    type=click.Choice(["dict", "list"]),
    default="dict",
    show_default=True,
    help="How a .npy holds a layer: as {'weights', 'biases'}, or as [weights, biases].",
)
@click.option("--quantize", is_flag=True, help="Store the weights of a .tflite in 8 bits: a quarter of the size.")
@click.option(
    "--fold", "folding", is_flag=True, help="Merge BatchNorm and Scale into the convolution before them: fewer layers."
)
@options.everyday
def command(
    model: str,
    text: str | None,
    prototxt: str | None,
    outs: tuple[str, ...],
    to: str | None,
    npy_layout: str,
    quantize: bool,
    folding: bool,
    input_shape: options.Shapes,
    outputs: options.Outputs,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Write MODEL in other formats: its weights, or the whole network; without -o as MODEL.npy in this folder.

    MODEL is a .caffemodel, or weights that caffe2tf wrote. PROTOTXT is the network text (deploy.prototxt), where MODEL does
    not hold the network; the two may come in either order. Whole models are read back, and the largest difference is
    printed.

    \b
    Examples:
      caffe2tf convert bvlc_alexnet.caffemodel
      caffe2tf convert deploy.prototxt net.caffemodel -o net.h5 -o net.keras -o saved_model/

    What each format holds and how it is read, docs/formats.md says.
    """
    from caffe2tf import formats, loading, words
    from caffe2tf.errors import ParseError
    from caffe2tf.files import replacing as files

    prototxt, weights = options.network(model, text, prototxt=prototxt)
    if weights is None:
        raise ParseError(f"{prototxt}: is text, expected a binary .caffemodel; a network text comes beside it")
    outs = outs or (f"{options.stem(weights)}.{(to or 'npy').lstrip('.')}",)
    kinds = [formats.of(out, to) for out in outs]
    if npy_layout != "dict" and "npy" not in kinds:
        raise click.UsageError("--npy-layout is of a .npy, and no -o is one")
    if quantize and "tflite" not in kinds:
        raise click.UsageError("--quantize is of a .tflite, and no -o is one")
    formats.check_targets(outs, force, sources=[path for path in (weights, prototxt) if path], kinds=kinds)
    with terminal.notes(not quiet):
        net = loading.load(prototxt=prototxt, model=weights, input_shape=input_shape, outputs=outputs)
    if folding:
        from caffe2tf.net.folding import fold

        net, saved = fold(net)
        if not quiet:
            gone = f"{saved.parameters:,} parameters fewer"
            terminal.note(f"folded {saved.layers} layers into {saved.convolutions} convolutions, {gone}")
    total, differences = sum(array.nbytes for arrays in net.arrays.values() for array in arrays), []
    for out, kind in zip(outs, kinds, strict=True):
        settings = _settings(kind, npy_layout, quantize)
        with terminal.hushed(verbose):
            formats.module(kind)  # may load TensorFlow
        hush = terminal.hushed(verbose or not formats.talks(kind))
        with terminal.progress(options.name(out), total, quiet) as step, hush:
            differences.append(formats.save(net, out, kind, force, progress=step, **settings))
    if quiet:
        return
    _print_weights(net)
    for out, kind, difference in zip(outs, kinds, differences, strict=True):
        again = "" if difference is None else f"  read back, largest difference {difference:.3g}"
        terminal.echo(f"{out}  {kind}  {words.size(files.size(out))}{again}")


def _settings(kind: str, npy_layout: str, quantize: bool) -> dict[str, Any]:
    """What `formats.save` takes for this format beside what it takes for all."""
    if kind == "npy":
        return {"layout": npy_layout}
    return {"quantize": quantize} if kind == "tflite" else {}


def _print_weights(net: "Net") -> None:
    from caffe2tf import words

    rows, total = [], 0
    for name in net.arrays:
        layer = net.layer(name)
        for weight, extents in layer.weight_shapes().items():
            count = 4 * math.prod(extents)
            total += count
            rows.append([name, layer.type, weight, words.shape(extents), f"{count:,}"])
    rows.append(["total", "", "", "", f"{total:,}"])
    terminal.table(["layer", "type", "weight", "shape", ">bytes"], rows)
