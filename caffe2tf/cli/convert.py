"""`caffe2tf convert`: the weights, or the whole network, in other formats."""

import math
from typing import TYPE_CHECKING, Any

import click

from caffe2tf.cli import options, sections, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caffe2tf.formats._calibration import Comparison
    from caffe2tf.net.net import Net

PLACE = 1


@click.command(cls=sections.Command, short_help="Write the weights, or the whole network, in other formats.")
@click.argument("model", nargs=-1, required=True, type=options.NETWORK, metavar="[PROTOTXT] MODEL...")
@options.prototxt
@sections.writing(
    "-o", "--out", "outs", multiple=True, metavar="OUT", help="Where to; the suffix is the format. Repeatable."
)
@sections.writing(
    "--to",
    metavar="FORMAT",
    shell_complete=sections.offered(sections.formats),
    help="The format, where the suffix does not tell it.",
)
@sections.writing(
    "--npy-layout",
    type=click.Choice(["auto", "dict", "list"]),
    default="auto",
    show_default=True,
    help="How a .npy holds a layer: list, [W, b], as the AlexNet and VGG tutorials load it; dict, {'weights', 'biases'}, as "
    "caffe-tensorflow does; auto, the list where no layer has more than W and b.",
)
@sections.writing(
    "--quantize",
    type=click.Choice(["weights", "float16"]),
    is_flag=False,
    flag_value="weights",
    help="Store the weights of a .tflite in 8 bits (weights, where nothing is said) or 16.",
)
@sections.writing(
    "--calibrate",
    type=options.FILE,
    metavar="DIR",
    help="Have a .tflite compute in 8 bits too, between the values that the pictures in DIR give; says how it does on them.",
)
@sections.writing(
    "--fold", "folding", is_flag=True, help="Merge BatchNorm and Scale into the convolution before them: fewer layers."
)
@sections.writing(
    "--with-preprocessing",
    "preprocessing",
    is_flag=True,
    help="A whole model takes pictures, 8-bit RGB of any size, and gives probabilities; resize, crop and mean are inside.",
)
@sections.reading(
    "--labels",
    type=options.TEXT,
    metavar="FILE",
    help="Class names in such a model, one a line; ImageNet's for 1000 classes.",
)
@options.everyday
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: tuple[str, ...],
    prototxt: str | None,
    outs: tuple[str, ...],
    to: str | None,
    npy_layout: str,
    quantize: str | None,
    calibrate: str | None,
    folding: bool,
    preprocessing: bool,
    labels: str | None,
    input_shape: options.Shapes,
    outputs: options.Outputs,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Write MODEL in other formats: its weights, or the whole network; without -o as MODEL.npy in this folder.

    MODEL is a .caffemodel, or what caffe2tf wrote: weights, a .keras, .onnx or .tflite, a SavedModel, the folder of `caffe2tf
    finetune`. PROTOTXT is the network text (deploy.prototxt), where MODEL does not hold the network; the two may come in either order. Of a folder
    of .caffemodel files each is taken, with the text of its name. Whole models are read back, and the largest difference is
    printed.

    \b
    Examples:
      caffe2tf convert bvlc_alexnet.caffemodel
      caffe2tf convert deploy.prototxt net.caffemodel -o net.h5 -o net.keras -o saved_model/
      caffe2tf convert models/ --to keras
      caffe2tf convert squeezenet.caffemodel --with-preprocessing -o served/1/
      caffe2tf convert squeezenet.caffemodel --calibrate photographs/ -o small.tflite

    What each format holds and how it is read, docs/formats.md says.
    """
    from caffe2tf import formats, loading, words
    from caffe2tf.errors import Caffe2TFError, ParseError
    from caffe2tf.files import replacing as files

    networks = options.networks(model, prototxt)
    if len(networks) > 1:
        if outs:
            raise click.UsageError(f"-o is one result, and there are {len(networks)} models; take --to FORMAT")
        _check_stems([str(weights or text) for text, weights in networks])
        done = [_converted(ctx, text, weights) for text, weights in networks]
        if not all(done):
            raise Caffe2TFError(f"{done.count(False)} of {len(networks)} models were not converted")
        return
    ((prototxt, weights),) = networks
    if weights is None:
        raise ParseError(f"{prototxt}: is text, expected a binary .caffemodel; a network text comes beside it")
    outs = outs or (f"{options.stem(weights)}.{(to or 'npy').lstrip('.')}",)
    kinds = [formats.of(out, to) for out in outs]
    if npy_layout != "auto" and "npy" not in kinds:
        raise click.UsageError("--npy-layout says how a .npy is written, and no -o is one")
    if quantize and "tflite" not in kinds:
        raise click.UsageError("--quantize says how a .tflite is written, and no -o is one")
    if calibrate and "tflite" not in kinds:
        raise click.UsageError("--calibrate says how a .tflite computes, and no -o is one")
    if calibrate and quantize:
        raise click.UsageError("--calibrate computes in 8 bits, --quantize in floats; take one of them")
    if labels and not preprocessing:
        raise click.UsageError("--labels are of a model --with-preprocessing")
    alone = [out for out, kind in zip(outs, kinds, strict=True) if not formats.runnable(kind)]
    if preprocessing and alone:
        raise click.UsageError(f"--with-preprocessing is of whole models, and {alone[0]} holds weights alone")
    names = None
    if labels:
        from caffe2tf.formats._trained import label_names

        names = label_names(labels)
    formats.check_targets(outs, force, sources=[path for path in (weights, prototxt) if path], kinds=kinds)
    with terminal.hushed(verbose), terminal.notes(not quiet):
        net = loading.load(prototxt=prototxt, model=weights, input_shape=input_shape, outputs=outputs)
    if folding:
        from caffe2tf.net.folding import fold

        net, saved = fold(net)
        if not quiet:
            gone = f"{saved.parameters:,} parameters fewer"
            terminal.note(f"folded {saved.layers} layers into {saved.convolutions} convolutions, {gone}")
    seen: list[Comparison] = []  # of each .tflite in turn
    total, differences = sum(array.nbytes for arrays in net.arrays.values() for array in arrays), []
    for out, kind in zip(outs, kinds, strict=True):
        settings = _settings(kind, npy_layout, quantize) | {"preprocessing": preprocessing, "labels": names}
        if calibrate and kind == "tflite":
            settings |= {"calibrate": calibrate, "compared": seen.append}
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
        terminal.echo(f"{out}  {kind}  {words.size(files.size(out))}{again}{_read_by(net, kind, npy_layout)}")
        if calibrate and kind == "tflite":
            _print_calibrated(seen.pop(0), calibrate, names or net.labels)


def _converted(ctx: click.Context, text: str | None, model: str | None) -> bool:
    """Whether one of several models could be converted, as the command line says; why not is printed."""
    from caffe2tf.errors import Caffe2TFError

    try:
        ctx.invoke(command, **ctx.params | {"prototxt": text, "model": (model or text,)})
    except Caffe2TFError as error:
        terminal.echo(f"caffe2tf: {terminal.with_flags(str(error), ctx.command)}", err=True)
        return False
    return True


def _check_stems(models: list[str]) -> None:
    """Raises UsageError for models whose results would have one name."""
    stems = [options.stem(model) for model in models]
    if twice := [one for one in models if stems.count(options.stem(one)) > 1]:
        raise click.UsageError(f"{' and '.join(twice)} would have results of one name; convert them one by one with -o")


def _read_by(net: "Net", kind: str, layout: str) -> str:
    """Which layout a .npy was written in, and what reads it."""
    if kind != "npy":
        return ""
    from caffe2tf.formats import npy

    told = npy.READ_BY[npy.layout_of(net) if layout == "auto" else layout]
    return f"  {told}: numpy.load(path, allow_pickle=True, encoding='bytes').item()"


def _print_calibrated(seen: "Comparison", folder: str, names: "Sequence[str]") -> None:
    from caffe2tf.classification import calibrated, labels

    terminal.echo(f"  {seen}")
    try:
        if right := calibrated.accuracy(seen, folder, names):
            terminal.echo(f"  {right}")
    except labels.LabelError as error:
        terminal.note(f"how often it is right is not known: {error}")


def _settings(kind: str, npy_layout: str, quantize: str | None) -> dict[str, Any]:
    """What `formats.save` takes for this format beside what it takes for all."""
    if kind == "npy":
        return {"layout": npy_layout}
    return {"quantize": quantize or False} if kind == "tflite" else {}


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
