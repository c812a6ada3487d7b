"""The command line: declarations and printing. What is done stands in the modules that each command imports."""

import json
import os
import sys

import click

from caffe2tf import __version__

# Commands that do not load TensorFlow use no linear algebra: NumPy's worker threads would only cost start-up time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1" if "-v" in sys.argv or "--verbose" in sys.argv else "3")


class _Group(click.Group):
    def invoke(self, ctx):
        from caffe2tf.errors import Caffe2TFError

        try:
            return super().invoke(ctx)
        except Caffe2TFError as error:
            for line in str(error).splitlines():
                click.echo(f"caffe2tf: {line}", err=True)
            ctx.exit(1)
        except MemoryError:
            click.echo("caffe2tf: not enough memory", err=True)
            ctx.exit(1)


def _shapes(ctx, param, values):
    shapes = {}
    for value in values:
        name, _, dims = value.rpartition("=")
        extents = tuple(int(n) for n in dims.split(",") if n.strip().isdigit())
        if len(extents) != dims.count(",") + 1 or 0 in extents:
            raise click.BadParameter(f"'{value}'; takes N,C,H,W or NAME=N,C,H,W, whole numbers above 0")
        shapes[name or None] = extents
    return shapes


_FILE = click.Path(dir_okay=True, path_type=str)
_prototxt = click.option("-p", "--prototxt", type=_FILE, metavar="FILE", help="The network text (deploy.prototxt).")
_input_shape = click.option(
    "--input-shape",
    "input_shapes",
    multiple=True,
    callback=_shapes,
    metavar="[NAME=]N,C,H,W",
    help="Shape of an input, where the files do not tell it.",
)
_force = click.option("-f", "--force", is_flag=True, help="Replace what exists.")
_quiet = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
_verbose = click.option("-v", "--verbose", is_flag=True, help="Print more.")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


def _notes(lines, quiet):
    for line in () if quiet else lines:
        click.echo(f"note: {line}", err=True)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", message="caffe2tf %(version)s")
def main():
    """Bring any Caffe network to TensorFlow 2 / Keras 3, and prove that it is still the same network.

    \b
    Try it without a download:
      caffe2tf sample
      caffe2tf convert bvlc_alexnet.caffemodel
    """


@main.command()
@click.argument("model", type=_FILE)
@_prototxt
@click.option(
    "-o", "--out", "outs", multiple=True, metavar="OUT", help="Where to; the suffix is the format. Repeatable."
)
@click.option("--to", metavar="FORMAT", help="The format, where the suffix does not tell it.")
@click.option("--npy-layout", type=click.Choice(["dict", "list"]), default="dict", show_default=True, help="Of a .npy.")
@click.option("--quantize", is_flag=True, help="8-bit weights (dynamic range), of a .tflite.")
@click.option("--fold", "folding", is_flag=True, help="BatchNorm and Scale folded into the convolution before them.")
@_input_shape
@_force
@_quiet
@_verbose
def convert(model, prototxt, outs, to, npy_layout, quantize, folding, input_shapes, force, quiet, verbose):
    """Write MODEL in other formats: its weights, or the whole network; without -o as MODEL.npy in this folder.

    MODEL is a .caffemodel, or weights that caffe2tf wrote. Whole models are read back, and the largest difference is
    printed.

    \b
    Examples:
      caffe2tf convert bvlc_alexnet.caffemodel
      caffe2tf convert net.caffemodel -p deploy.prototxt -o net.h5 -o net.keras -o saved_model/

    The README's table of formats says what each holds and how it is read.
    """
    from caffe2tf import formats, terminal

    if not outs:
        stem = os.path.splitext(os.path.basename(model.rstrip("/")))[0]
        outs = (f"{stem}.{(to or 'npy').lstrip('.')}",)
    kinds = [formats.of(out, to) for out in outs]
    if npy_layout != "dict" and "npy" not in kinds:
        raise click.UsageError("--npy-layout is of a .npy, and no -o is one")
    if quantize and "tflite" not in kinds:
        raise click.UsageError("--quantize is of a .tflite, and no -o is one")
    formats.check_targets(outs, force, sources=[path for path in (model, prototxt) if path])
    net = formats.load(prototxt, model, input_shapes)
    _notes(net.notes, quiet)
    if folding:
        from caffe2tf.fold import fold

        net, saved = fold(net)
        line = f"folded {saved.layers} layers into {saved.convolutions} convolutions, {saved.parameters:,} parameters fewer"
        _notes([line], quiet)
    total, differences = sum(array.nbytes for arrays in net.arrays.values() for array in arrays), []
    for out, kind in zip(outs, kinds, strict=True):
        options = {"npy": {"layout": npy_layout}, "tflite": {"quantize": quantize}}.get(kind, {})
        with terminal.hushed(verbose):
            formats.module(kind)  # may load TensorFlow
        hush = terminal.hushed(verbose or not formats.talks(kind))
        with terminal.progress(os.path.basename(out.rstrip("/")), total, quiet) as step, hush:
            differences.append(formats.save(net, out, kind, force, progress=step, **options))
    if quiet:
        return
    rows = []
    for name in net.arrays:
        row = net.layer(name)
        for weight, extents in row.weight_shapes().items():
            count = 4
            for extent in extents:
                count *= extent
            rows.append([name, row.type, weight, terminal.shape(extents), f"{count:,}"])
    rows.append(["total", "", "", "", f"{sum(int(row[4].replace(',', '')) for row in rows):,}"])
    terminal.table(["layer", "type", "weight", "shape", ">bytes"], rows)
    for out, kind, difference in zip(outs, kinds, differences, strict=True):
        again = "" if difference is None else f"  read back, largest difference {difference:.3g}"
        click.echo(f"{out}  {kind}  {terminal.size(formats.size_of(out))}{again}")


@main.command()
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@_prototxt
@_input_shape
@_json
@_quiet
@_verbose
def inspect(files, prototxt, input_shapes, as_json, quiet, verbose):
    """Show the layers, shapes, parameters and multiply-adds of networks, and what is not supported.

    FILE is a .caffemodel or a network text. Multiply-adds are those of one item of the batch.

    \b
    Examples:
      caffe2tf inspect bvlc_alexnet.caffemodel
      caffe2tf inspect net.caffemodel -p deploy.prototxt --json
    """
    from caffe2tf import terminal
    from caffe2tf.inspection import inspect_file

    found = [inspect_file(file, prototxt, input_shapes) for file in files]
    if as_json:
        click.echo(json.dumps({"files": found}, indent=1))
    for net in () if as_json else found:
        _notes(net["notes"], quiet)
        rows = []
        for layer in net["layers"]:
            work = layer["multiply_adds"]
            rows.append(
                [
                    layer["name"],
                    layer["type"],
                    ", ".join(map(terminal.shape, layer["shapes"])),
                    ", ".join(f"{name} {terminal.shape(extents)}" for name, extents in layer["weights"].items()),
                    f"{layer['parameters']:,}" if layer["parameters"] else "",
                    "?" if work is None else f"{work:,}" if work else "",
                    *([" ".join(layer["no_effect"])] if verbose else []),
                ]
            )
        work = net["multiply_adds"]
        last = ["total", "", "", "", f"{net['parameters']:,}", "?" if work is None else f"{work:,}"]
        rows.append([*last, *([""] if verbose else [])])
        columns = ["layer", "type", "output", "weights", ">parameters", ">multiply-adds"]
        title = f"{net['file']}: {net['name'] or 'no name'}, {net['encoding']}"
        terminal.table([*columns, *(["no effect"] if verbose else [])], rows, title)
        for line in net["unsupported"]:
            click.echo(f"not supported: {line}")
    if any(net["unsupported"] for net in found):
        sys.exit(1)


@main.command()
@click.argument("file", type=_FILE, default="bvlc_alexnet.caffemodel")
@_force
@_quiet
@_verbose
def sample(file, force, quiet, verbose):
    """Write the full-size AlexNet with seeded weights to FILE (244 MB; bvlc_alexnet.caffemodel by default).

    The file is the same on every machine and in the encoding of the published one: V1 layers, a snapshot of the
    training phase. The network does not know pictures, but every command can be tried on it.

    \b
    Example:
      caffe2tf sample && caffe2tf convert bvlc_alexnet.caffemodel
    """
    from caffe2tf import formats, terminal
    from caffe2tf import sample as seeded

    formats.check_targets([file], force)
    with terminal.progress(os.path.basename(file), seeded.BYTES, quiet) as step:
        seeded.write(file, force, progress=step)
    if not quiet:
        click.echo(f"{file}  AlexNet, seed {seeded.SEED}  {terminal.size(formats.size_of(file))}")
