"""The command line: declarations and printing. What is done stands in the modules that each command imports."""

import contextlib
import json
import os
import sys

import click

from caffe2tf import __version__, bundled, loading, words
from caffe2tf.classification import score as scores
from caffe2tf.cli import stopping
from caffe2tf.cli.terminal import echo, plain

# Commands that do not load TensorFlow use no linear algebra: NumPy's worker threads would only cost start-up time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1" if "-v" in sys.argv or "--verbose" in sys.argv else "3")


class _Group(click.Group):
    def list_commands(self, ctx):
        return list(self.commands)  # as they stand below, in the order of use

    def main(self, *args, **options):
        with stopping.heeded():
            return super().main(*args, **options)

    def invoke(self, ctx):
        from caffe2tf.cli import terminal
        from caffe2tf.errors import Caffe2TFError
        from caffe2tf.files import mapped

        terminal.any_encoding()
        try:
            with mapped.unchanged():
                return super().invoke(ctx)
        except Caffe2TFError as error:
            for line in str(error).split("\n"):
                echo(f"caffe2tf: {line}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt as error:
            echo("caffe2tf: stopped; nothing half-written is left", err=True)
            ctx.exit(stopping.exit_code(error))
        except MemoryError:
            echo("caffe2tf: not enough memory", err=True)
            ctx.exit(1)
        finally:
            sys.stdout.flush()  # here click still ends silently when nobody reads on


def _shapes(ctx, param, values):
    from caffe2tf.errors import NetError
    from caffe2tf.net.net import parse_shapes

    try:
        return parse_shapes(values) if values else {}
    except NetError as error:
        raise click.BadParameter(str(error)) from None


def _suffix(*allowed):
    """A check that an output ends with one of `allowed`."""

    def check(ctx, param, value):
        if value is not None and not value.lower().endswith(allowed):
            raise click.BadParameter(f"'{value}'; takes a {' or '.join(allowed)}")
        return value

    return check


class _Path(click.Path):
    """A path that the shell completes with the files of some suffixes, else with folders, else with any file."""

    def __init__(self, *suffixes):
        super().__init__(path_type=str)
        self.suffixes = suffixes

    def shell_complete(self, ctx, param, incomplete):
        from click.shell_completion import CompletionItem

        folder, start = os.path.split(incomplete)
        with contextlib.suppress(OSError):
            names = [
                n
                for n in sorted(os.listdir(folder or "."))
                if n.startswith(start) and n.lower().endswith(self.suffixes)
            ]
            # The shells take what is offered word by word; their own completion quotes.
            if names and not any(set(name) & set(" \t\\'\"()&;$*?[") for name in names):
                whole = [CompletionItem(os.path.join(folder, name)) for name in names]
                return [CompletionItem(incomplete, type="dir"), *whole]
        return [CompletionItem(incomplete, type="file")]


_FILE = click.Path(dir_okay=True, path_type=str)
_WEIGHTS = ".caffemodel", ".npy", ".npz", ".h5", ".safetensors"
_MODEL = _Path(*_WEIGHTS)
_WHOLE = _Path(*_WEIGHTS, ".keras", ".tflite")
_PROTOTXT = _Path(".prototxt", ".pbtxt", ".txt")
_TEXT = _Path(".txt", ".tsv", ".lst")
_prototxt = click.option("-p", "--prototxt", type=_PROTOTXT, metavar="FILE", help="The network text (deploy.prototxt).")
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


def _name(path):
    """The last part of a path, a trailing separator aside."""
    return os.path.basename(os.path.normpath(path))


def _notes(lines, quiet):
    for line in () if quiet else lines:
        echo(f"note: {line}", err=True)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "--version", message="caffe2tf %(version)s")
def main():
    """Bring any Caffe network to TensorFlow 2 / Keras 3, and prove that it is still the same network.

    Results go to stdout, everything else to stderr; the exit code is 0 (done), 1 (the answer is no, or the input is
    bad) or 2 (wrong usage). Bars and colours are for terminals; NO_COLOR leaves the colours out.

    \b
    Try it without a download:
      caffe2tf demo
    Then, with a model of your own:
      caffe2tf inspect net.caffemodel
      caffe2tf convert net.caffemodel -p deploy.prototxt -o net.keras
      caffe2tf classify net.keras cat.jpg
    """


@main.command(short_help="Write the weights, or the whole network, in other formats.")
@click.argument("model", type=_MODEL)
@_prototxt
@click.option(
    "-o", "--out", "outs", multiple=True, metavar="OUT", help="Where to; the suffix is the format. Repeatable."
)
@click.option("--to", metavar="FORMAT", help="The format, where the suffix does not tell it.")
@click.option("--npy-layout", type=click.Choice(["dict", "list"]), default="dict", show_default=True, help="Of a .npy.")
@click.option("--quantize", is_flag=True, help="8-bit weights (dynamic range) in a .tflite.")
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
    from caffe2tf import formats
    from caffe2tf.cli import terminal
    from caffe2tf.files import replacing as files

    if not outs:
        stem = os.path.splitext(_name(model))[0]
        outs = (f"{stem}.{(to or 'npy').lstrip('.')}",)
    kinds = [formats.of(out, to) for out in outs]
    if npy_layout != "dict" and "npy" not in kinds:
        raise click.UsageError("--npy-layout is of a .npy, and no -o is one")
    if quantize and "tflite" not in kinds:
        raise click.UsageError("--quantize is of a .tflite, and no -o is one")
    formats.check_targets(outs, force, sources=[path for path in (model, prototxt) if path], kinds=kinds)
    net = loading.load(prototxt, model, input_shapes)
    _notes(net.notes, quiet)
    if folding:
        from caffe2tf.net.folding import fold

        net, saved = fold(net)
        line = f"folded {saved.layers} layers into {saved.convolutions} convolutions, {saved.parameters:,} parameters fewer"
        _notes([line], quiet)
    total, differences = sum(array.nbytes for arrays in net.arrays.values() for array in arrays), []
    for out, kind in zip(outs, kinds, strict=True):
        options = {"npy": {"layout": npy_layout}, "tflite": {"quantize": quantize}}.get(kind, {})
        with terminal.hushed(verbose):
            formats.module(kind)  # may load TensorFlow
        hush = terminal.hushed(verbose or not formats.talks(kind))
        with terminal.progress(_name(out), total, quiet) as step, hush:
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
            rows.append([name, row.type, weight, words.shape(extents), f"{count:,}"])
    rows.append(["total", "", "", "", f"{sum(int(row[4].replace(',', '')) for row in rows):,}"])
    terminal.table(["layer", "type", "weight", "shape", ">bytes"], rows)
    for out, kind, difference in zip(outs, kinds, differences, strict=True):
        again = "" if difference is None else f"  read back, largest difference {difference:.3g}"
        echo(f"{out}  {kind}  {words.size(files.size(out))}{again}")


@main.command(short_help="Show layers, shapes, parameters and what is not supported.")
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@_prototxt
@_input_shape
@click.option("--diff", is_flag=True, help="What differs between two FILEs; exit code 1 where something does.")
@click.option("--html", "page", metavar="FILE.html", help="Write one self-contained page.")
@_json
@_force
@_quiet
@_verbose
def inspect(files, prototxt, input_shapes, diff, page, as_json, force, quiet, verbose):
    """Show the layers, shapes, parameters and multiply-adds of networks, and what is not supported.

    FILE is a .caffemodel, a network text, or weights that caffe2tf wrote. Multiply-adds are those of one item of the batch;
    field is how many pixels of the input one value depends on, stride how many lie between neighbours. With --diff two
    networks are compared as they compute: their layers, what these are set to, and every weight.

    \b
    Examples:
      caffe2tf inspect bvlc_alexnet.caffemodel
      caffe2tf inspect net.caffemodel -p deploy.prototxt --json
      caffe2tf inspect --diff before.caffemodel after.caffemodel
    """
    from caffe2tf import formats
    from caffe2tf.inspection.summary import inspect_file

    if diff and page:
        raise click.UsageError("--html is of what is in a file; with --diff take --json")
    if diff and len(files) != 2:
        raise click.UsageError(f"--diff compares two files, {len(files)} given")
    if diff:
        from caffe2tf.cli import terminal
        from caffe2tf.inspection import difference as differences
        from caffe2tf.inspection import summary as inspection

        nets = [inspection.load(file, prototxt, input_shapes) for file in files]
        with terminal.progress("comparing", len(nets[0].nodes), quiet, count=True) as step:
            found = {"files": files, **differences.diff(*nets, step)}
        if as_json:
            echo(json.dumps(found, indent=1))
        elif not quiet:
            _print_diff(found)
        sys.exit(0 if found["same"] else 1)
    if page:
        formats.check_targets([page], force, sources=[*files, *filter(None, [prototxt])])
    found = [inspect_file(file, prototxt, input_shapes) for file in files]
    if page:
        from caffe2tf.files.replacing import write_text
        from caffe2tf.inspection import page as pages

        write_text(page, pages.inspection(found), force)
    if as_json:
        echo(json.dumps({"files": found}, indent=1))
    for net in () if as_json else found:
        _notes(net["notes"], quiet)
        _print_network(net, verbose)
    if any(net["unsupported"] for net in found):
        sys.exit(1)


def _print_network(net, verbose):
    from caffe2tf.cli import terminal

    rows = []
    for layer in net["layers"]:
        work = layer["multiply_adds"]
        rows.append(
            [
                layer["name"],
                layer["type"],
                ", ".join(map(words.shape, layer["shapes"])),
                ", ".join(f"{name} {words.shape(extents)}" for name, extents in layer["weights"].items()),
                f"{layer['parameters']:,}" if layer["parameters"] else "",
                layer["parameters"] / net["parameters"] if layer["parameters"] else "",
                "?" if work is None else f"{work:,}" if work else "",
                work / net["multiply_adds"] if work and net["multiply_adds"] else "",
                words.square(layer["receptive_field"]),
                words.square(layer["stride"]),
                *([" ".join(layer["no_effect"])] if verbose else []),
            ]
        )
    work = net["multiply_adds"]
    last = ["total", "", "", "", f"{net['parameters']:,}", "", "?" if work is None else f"{work:,}", "", "", ""]
    rows.append([*last, *([""] if verbose else [])])
    columns = ["layer", "type", "output", "weights", ">parameters", ">share", ">multiply-adds", ">share"]
    columns += [">field", ">stride", *(["no effect"] if verbose else [])]
    title = f"{net['file']}: {net['name'] or 'no name'}, {net['encoding']}"
    terminal.table(columns, rows, title, spare=["weights", "share", "type"])
    if net["preprocessing"]:
        echo(f"pictures become input as {net['preprocessing']['words']} ({net['preprocessing']['source']})")
    if net["fixed_batch"]:
        echo(f"batch fixed by {', '.join(net['fixed_batch'])}, which use axis 0")
    for line in net["unsupported"]:
        echo(f"not supported: {line}")


def _print_diff(found):
    from caffe2tf.cli import terminal

    def said(what, value):
        if what == "shapes":
            return ", ".join(map(words.shape, value))
        return (", ".join(map(str, value)) or "not set") if isinstance(value, list) else str(value)

    rows, files = [], found["files"]
    for layer in found["layers"]:
        if layer["only"] is not None:
            rows.append([layer["name"], "layer", f"only in {files[layer['only']]}"])
        for what, (first, second) in layer["differs"].items():
            rows.append([layer["name"], what, f"{said(what, first)}  ->  {said(what, second)}"])
        for name, weight in layer["weights"].items():
            if weight.get("equal"):
                told = "equal"
            elif "only" in weight:
                told = f"only in {files[weight['only']]}"
            elif "shapes" in weight:
                told = "  ->  ".join(map(words.shape, weight["shapes"]))
            else:
                largest, share = (
                    "infinite" if weight[k] is None else f"{weight[k]:.3g}" for k in ("largest", "relative")
                )
                place = "x".join(map(str, weight["place"]))
                told = f"{weight['changed']:,} of {weight['values']:,} values, largest {largest} (relative {share}) at {place}"
            rows.append([layer["name"], name, told])
    terminal.table(["layer", "what", "difference"], rows, f"{files[0]}  ->  {files[1]}")
    _notes(
        [f"pictures become input as {'  ->  '.join(map(str, found['preprocessing']))}"]
        if found["preprocessing"]
        else [],
        False,
    )
    echo("same network" if found["same"] else "they differ")


@main.command(short_help="Write the full-size AlexNet with seeded weights.")
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
    from caffe2tf import formats
    from caffe2tf.cli import terminal
    from caffe2tf.files import replacing as files
    from caffe2tf.samples import networks as seeded

    formats.check_targets([file], force)
    with terminal.progress(os.path.basename(file), seeded.BYTES, quiet) as step:
        seeded.write(file, force, progress=step)
    if not quiet:
        echo(f"{file}  AlexNet, seed {seeded.SEED}  {words.size(files.size(file))}")


def _model_here(model):
    """MODEL, or the one model in this folder. Raises with what was found and what to type."""
    if model is not None:
        return model
    from caffe2tf import formats
    from caffe2tf.errors import Caffe2TFError

    found = formats.models_in(".")
    if len(found) != 1:
        has = f"{len(found)} models here ({', '.join(found)})" if found else "no model here"
        raise Caffe2TFError(f"{has}; name one: caffe2tf {click.get_current_context().info_name} MODEL")
    return found[0]


_device = click.option("--device", default="auto", show_default=True, metavar="auto|cpu|gpu[:N]", help="Where it runs.")


@main.command(short_help="Compare a model with Caffe's own results, layer by layer.")
@click.argument("model", type=_MODEL, required=False)
@_prototxt
@click.option("--golden", "sets", multiple=True, metavar="DIR", help="A golden set of the network. Repeatable.")
@click.option("--images", type=_FILE, metavar="DIR", help="The photographs of published predictions.")
@_device
@click.option(
    "--precision",
    type=click.Choice(["float32", "tf32", "mixed_float16"]),
    default="float32",
    show_default=True,
    help="What it computes in, each with the tolerance it deserves.",
)
@click.option("--report", "page", metavar="FILE.html", help="Write one self-contained page.")
@_input_shape
@_json
@_force
@_quiet
@_verbose
def verify(model, prototxt, sets, images, device, precision, page, input_shapes, as_json, force, quiet, verbose):
    """Run MODEL on inputs for which Caffe's own results are known, and compare layer by layer.

    Names the first layer that is wrong. Exit code 0 only if everything holds. Without --golden the set is chosen by the
    weights: the seeded AlexNet's, or the published predictions of bvlc_alexnet (with --images).

    \b
    Examples:
      caffe2tf verify bvlc_alexnet.caffemodel
      caffe2tf verify net.npz -p deploy.prototxt --golden my_golden/ --report report.html
    """
    from caffe2tf import formats
    from caffe2tf.cli import terminal
    from caffe2tf.files import replacing as files

    model = _model_here(model)
    if page:
        formats.check_targets([page], force)
    net = loading.load(prototxt, model, input_shapes)
    _notes(net.notes, quiet or not verbose)
    with terminal.hushed(verbose):
        from caffe2tf.verification import report as reports
        from caffe2tf.verification.verify import verify as run_verify

        found = [run_verify(net, folder, images, device, precision) for folder in sets or (None,)]
    if page:
        files.write_text(page, reports.as_html(found), force)
    if as_json:
        echo(json.dumps(reports.as_data(found), indent=1))
    elif not quiet:
        for one in found:
            _print_report(one, verbose)
    if not all(one.passed for one in found):
        sys.exit(1)


def _print_report(report, verbose):
    from caffe2tf.cli import terminal
    from caffe2tf.verification import report as reports

    running = ", ".join(report.running.values())
    rows = []
    for check in report.layers:
        place = "x".join(map(str, check.chained.place))
        alone = "-" if check.alone is None else f"{check.alone.l2:.2g}"
        verdict = "ok" if check.passed else "WRONG"
        numbers = [
            alone,
            f"{check.chained.l2:.2g}",
            f"{check.chained.largest:.2g}",
            f"{check.chained.relative:.2g}",
            place,
        ]
        rows.append([" + ".join(check.layers), check.kind, words.shape(check.shape), *numbers, verdict])
    if rows:
        columns = ["layer", "type", "shape", ">alone", ">chained", ">largest", ">relative", "at", "verdict"]
        title = f"{report.name} against golden set '{report.golden}' ({running}), relative L2 errors, tolerance {report.tolerance:g}"
        terminal.table(columns, rows, title)
    names, rows = bundled.classes(), []
    for prediction in report.predictions if verbose or len(report.predictions) <= 10 else ():
        (wanted, known), (guess, sure) = prediction.expected[0], prediction.found[0]
        verdict = "ok" if prediction.passed else "WRONG"
        both = f"{names[wanted].split(',')[0]} {known:.4f}", f"{names[guess].split(',')[0]} {sure:.4f}"
        rows.append([prediction.image, *both, {None: "-", True: "same", False: "other"}[prediction.same_set], verdict])
    if rows:
        echo()
        terminal.table(["image", "expected", "found", "top-5 set", "verdict"], rows)
    echo(("\n" if rows or report.layers else "") + reports.conclusion(report))


@main.command(short_help="Say what is in pictures, and how often a model is right.")
@click.argument("model", type=_WHOLE)
@click.argument("images", nargs=-1, type=_FILE, metavar="IMAGE...")
@_prototxt
@click.option(
    "-k", "--top", "count", type=click.IntRange(1), default=5, show_default=True, help="Classes for each image."
)
@click.option("--labels", type=_TEXT, metavar="FILE", help="Class names, one a line; ImageNet's for 1000 outputs.")
@click.option(
    "--truth", type=_TEXT, metavar="LIST|DIR", help="What is in them: lines `path label`, or a folder per class."
)
@click.option("--labels-from-names", is_flag=True, help="What is in them: the file name up to the first dot.")
@click.option(
    "--csv", "as_csv", is_flag=True, help="Rows on stdout: file,rank,class,name,probability, and truth where known."
)
@_json
@click.option("--plot", callback=_suffix(".png"), metavar="FILE.png", help="Draw the images with their bars.")
@click.option(
    "--confusion", callback=_suffix(".png", ".csv"), metavar="FILE.png|.csv", help="Write the confusion matrix."
)
@click.option(
    "--trust", is_flag=True, help="Run a SavedModel that caffe2tf did not write: it can read and write files."
)
@_device
@_input_shape
@_force
@_quiet
@_verbose
def classify(model, images, prototxt, count, labels, truth, labels_from_names, as_csv, as_json, plot, confusion, trust, device, input_shapes, force, quiet, verbose):  # fmt: skip
    """Say what is in pictures: the most probable classes with names and probabilities.

    MODEL is a .caffemodel, weights that caffe2tf wrote, a .keras or .tflite file, a SavedModel folder or the folder of
    `caffe2tf finetune`; IMAGE a file, a folder, a glob, or - for one on standard input.

    With --truth or --labels-from-names it counts how often the model is right (top-1, top-5) and for few classes prints
    the confusion matrix. A label is a class name, one of its synonyms, a WordNet id or a number; paths in a list are
    relative to the list, and without IMAGE all of it is taken. A picture that cannot be read is listed and left out, and
    the exit code is 1.

    \b
    Examples:
      caffe2tf classify squeezenet.caffemodel cat.jpg
      caffe2tf classify net.keras photographs/ --plot seen.png
      caffe2tf classify net.tflite 'holidays/*.jpg' --labels names.txt --csv > seen.csv
      caffe2tf classify finetuned/ --truth test.txt --confusion confusion.png
      curl -s https://example.org/cat.jpg | caffe2tf classify squeezenet.caffemodel - --json
    """
    import csv

    from caffe2tf import formats
    from caffe2tf.classification import labels as labelling
    from caffe2tf.cli import terminal

    if as_csv and as_json:
        raise click.UsageError("--csv and --json both go to stdout; take one")
    if truth and labels_from_names:
        raise click.UsageError("--truth and --labels-from-names both say what is in the pictures; take one")
    if not images and not truth:
        raise click.UsageError("Missing argument 'IMAGE...'.")
    if confusion and not (truth or labels_from_names):
        raise click.UsageError("--confusion compares with what is in the pictures; say that with --truth")
    paths, written = labelling.find(images, truth, labels_from_names)
    formats.check_targets([path for path in (plot, confusion) if path], force, sources=[*paths, model])
    with contextlib.ExitStack() as stack:
        loading = terminal.progress(f"loading {_name(model)}", None, quiet)
        with loading, terminal.hushed(verbose):
            from caffe2tf.classification import classifier as classifying
            from caffe2tf.keras_model import device as devices

            stack.enter_context(devices.running(device))
            many = len(paths) > classifying.MANY
            classifier = classifying.load(model, prototxt, labels, input_shapes, many, device, trust)
        numbers = labelling.numbers(written, classifier.names, classifier.ids) if written else None
        score, found = scores.Score(classifier.names), []
        _notes([f"pictures become input as {classifier.preprocessing} ({classifier.source})"], quiet)
        # Rows that run over the terminal are progress enough.
        hidden = quiet or len(paths) <= classifying.BATCH or (sys.stdout.isatty() and not as_json)
        step = stack.enter_context(terminal.progress("classifying", len(paths), hidden, count=True))
        rows = csv.writer(sys.stdout, lineterminator="\n")
        if as_csv:
            rows.writerow(classifying.COLUMNS[: None if written else -1])
        for seen in terminal.hushed_each(classifier(paths, max(count, scores.TOP), numbers), verbose):
            step(1)
            found.append(seen)
            score.add(seen)
            if as_csv:
                rows.writerows([plain(str(cell)) for cell in row] for row in classifying.rows(seen, count))
            elif seen.top and not as_json:
                verdict = "" if seen.right is None else "  ok" if seen.right else f"  WRONG, is {seen.label[1]}"
                terminal.bars(f"{seen.file}{verdict}", [(name, p) for _, name, p in seen.top[:count]])
    _notes([seen.note for seen in found if seen.note], quiet)
    if plot:
        with terminal.hushed(verbose):  # of characters that matplotlib's font lacks
            left = classifying.draw(found, plot, force)
        _notes(left, quiet)
    if confusion:
        score.write_confusion(confusion, force)
    if as_json:
        echo(json.dumps(classifying.as_data(found, count, score), indent=1))
    elif written and as_csv:
        echo(score, err=True)
    elif written:
        echo(f"\n{score}")
        if score.few:
            echo()
            terminal.table(*score.confusion_table())
    unread = [seen.error for seen in found if seen.error]
    for line in unread:
        echo(f"caffe2tf: {line}", err=True)
    if unread:
        if len(found) > 1:
            echo(f"caffe2tf: {len(unread)} of {len(found)} pictures cannot be read", err=True)
        sys.exit(1)


class _Finetune(click.Command):
    """Its options are the settings, which say themselves what they take; they are loaded when asked for."""

    def get_params(self, ctx):
        from caffe2tf.finetuning import settings

        said = [name for name in settings.OPTIONS if name not in ("model", "prototxt", "input_shape")]
        first, *rest = super().get_params(ctx)
        return [first, *map(_setting, said), *rest]


def _setting(name):
    from caffe2tf.finetuning import settings

    known = settings.OPTIONS[name]

    def take(ctx, param, value):
        try:
            return value if value is None else settings.convert(name, value, "value")
        except settings.RecipeError as error:
            raise click.BadParameter(str(error).removeprefix("value: ")) from None

    flag = {"is_flag": True} if known.default is False else {"metavar": known.metadata["metavar"], "type": str}
    shown = known.default is not None and known.default is not False and known.default != ""
    return click.Option(
        [f"--{name.replace('_', '-')}"], default=known.default, show_default=shown, help=known.metadata["help"],
        callback=take, **flag,
    )  # fmt: skip


@main.command(cls=_Finetune)
@click.argument("model", type=_FILE, required=False)
@_prototxt
@click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="'KEY=VALUE ...'",
    help="A stage of its own, from --layers to --augment. Repeatable.",
)
@click.option("--recipe", "file", type=_FILE, metavar="FILE.toml", help="All of these settings, as a file.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out that was stopped.")
@click.option("--out", default="finetuned", show_default=True, metavar="DIR", help="Folder of the results.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|gpu[:N],...", help="Where it runs.")
@_input_shape
@_force
@_quiet
@_verbose
@click.pass_context
def finetune(ctx, model, prototxt, stages, file, resume, out, device, input_shapes, force, quiet, verbose, **values):
    """Train a new head, or any layers, of MODEL on your own pictures.

    The head is replaced where the number of classes differs, and only it starts fresh. Frozen features are computed once.
    A network text as MODEL starts from its fillers. The folder --out gets models, weights, history, metrics, pictures,
    report.html and recipe.toml; `caffe2tf classify DIR IMAGE` uses it. Ctrl-C stops after a step, and --resume goes on.

    \b
    Examples:
      caffe2tf finetune --layers fc8
      caffe2tf finetune net.npz -p deploy.prototxt --layers fc7,fc8 --data flowers/ --epochs 50
      caffe2tf finetune --stage "layers=fc8 lr=1e-3" --stage "layers=all lr=1e-5 dropout=0"
      caffe2tf finetune --resume
    """
    from dataclasses import replace

    from caffe2tf.cli import terminal
    from caffe2tf.finetuning import recipe

    apart = {"out", "device", "force", "quiet", "verbose", "resume", "file"}
    given = ctx.get_parameter_source
    typed = [name for name in ctx.params if name not in apart and given(name) != click.core.ParameterSource.DEFAULT]
    if file and typed:
        names = {
            param.name: param.make_metavar(ctx) if param.name == "model" else param.opts[-1]
            for param in ctx.command.get_params(ctx)
        }
        raise click.UsageError(f"--recipe says all settings; {names[typed[0]]} has no part beside it")
    if resume and force:
        raise click.UsageError("--resume goes on with what --force would replace")
    with terminal.hushed(verbose):
        from caffe2tf.finetuning import inputs, placement, results, training
        from caffe2tf.finetuning import run as command

        made = recipe.read(file) if file else None
        if made:
            made = replace(made, model=_model_here(made.model), data=inputs.find_data(made.data))
        if typed or not (file or resume):
            shape = ";".join(
                f"{name}={','.join(map(str, s))}".removeprefix("None=") for name, s in input_shapes.items()
            )
            paths = {"model": _model_here(model), "prototxt": prototxt, "input_shape": shape or None}
            made = recipe.of(values | paths | {"data": inputs.find_data(values["data"])}, stages)
        if resume:
            made = command.recall(out, made)
    if made is None:
        echo(f"{out}: the run is finished, there is nothing to go on with", err=True)
        return

    def say(line):
        if not quiet:
            echo(line, err=not line.startswith(("epoch", "test accuracy", "validation accuracy")))

    def bar(what, total):
        return terminal.progress(what, total, quiet, count=True)

    try:
        with contextlib.ExitStack() as stack:
            with terminal.hushed(verbose):  # starts TensorFlow
                place = stack.enter_context(placement.placed(device, made.precision))
            if place.chief:
                results.check_folder(out, force, resume)  # before pictures are read
            run = command.Run(made, say if place.chief else lambda line: None, bar)
            run.train(out, place, force, resume)
    except (training.Stopped, KeyboardInterrupt) as stopped:
        told = str(stopped) or "stopped"
        echo(f"caffe2tf: {told}; go on with: caffe2tf finetune --resume --out {out}", err=True)
        sys.exit(stopping.exit_code(stopped))


@main.group()
def visualize():
    """Draw a network: its filters, what it makes of a picture, its graph, or all of that as one page.

    The suffix of -o chooses .png, .svg or .pdf; the page is .html. Layers have Caffe's names, as `caffe2tf inspect` lists
    them.

    \b
    Examples:
      caffe2tf visualize filters squeezenet.caffemodel conv1
      caffe2tf visualize activations squeezenet.caffemodel cat.jpg conv1 fire2/concat
      caffe2tf visualize graph squeezenet.caffemodel
      caffe2tf visualize all squeezenet.caffemodel cat.jpg -o squeezenet.html
    """


def _out(metavar="PICTURE"):
    return click.option("-o", "--out", metavar=metavar, help="Where to.  [default: made of the names, in this folder]")


def _stem(path):
    return os.path.splitext(os.path.basename(path.rstrip("/")))[0]


def _target(out, force, sources):
    """Checks -o before the work; gives its kind of picture."""
    from caffe2tf import formats
    from caffe2tf.drawing import visualize as visualizing

    kind = visualizing.kind_of(out)
    formats.check_targets([out], force, sources=[path for path in sources if path])
    return kind


def _write(out, data, force, quiet):
    from caffe2tf.files import replacing as files

    files.write_bytes(out, data, force)
    if not quiet:
        echo(f"{out}  {words.size(len(data))}")


@visualize.command("filters")
@click.argument("model", type=_FILE)
@click.argument("layer")
@_prototxt
@click.option("--group", type=click.IntRange(1), help="Which group of a grouped layer.  [default: 1]")
@_out()
@_input_shape
@_force
@_quiet
@_verbose
def visualize_filters(model, layer, prototxt, group, out, input_shapes, force, quiet, verbose):
    """Draw the filters of LAYER as tiles.

    Those of a first layer are in colour. Deeper ones are a table: a row for each output channel, a column for each input channel, one group at a time.

    \b
    Example:
      caffe2tf visualize filters bvlc_alexnet.caffemodel conv2 --group 2
    """
    from caffe2tf.drawing import visualize as visualizing
    from caffe2tf.inspection import summary as inspection
    from caffe2tf.net import names

    out = out or f"{_stem(model)}-{names.plain(layer)}{f'-group{group}' if group else ''}.png"
    kind = _target(out, force, [model, prototxt])
    net = inspection.load(model, prototxt, input_shapes)
    _notes(net.notes, quiet or not verbose)
    _write(out, visualizing.filters(net, layer, group, kind), force, quiet)


@visualize.command("activations")
@click.argument("model", type=_FILE)
@click.argument("image", type=_FILE)
@click.argument("layers", nargs=-1, required=True, metavar="LAYER...")
@_prototxt
@_out()
@_device
@_input_shape
@_force
@_quiet
@_verbose
def visualize_activations(model, image, layers, prototxt, out, device, input_shapes, force, quiet, verbose):
    """Draw what each LAYER makes of IMAGE.

    Feature maps are tiles, the picture stands beside them. A layer that is changed in place is drawn as it is afterwards.

    \b
    Example:
      caffe2tf visualize activations squeezenet.caffemodel cat.jpg conv1 fire2/concat
    """
    from caffe2tf.cli import terminal
    from caffe2tf.drawing import visualize as visualizing
    from caffe2tf.inspection import summary as inspection

    out = out or f"{_stem(model)}-{_stem(image)}.png"
    kind = _target(out, force, [model, image, prototxt])
    net = inspection.load(model, prototxt, input_shapes)
    _notes(net.notes, quiet or not verbose)
    with terminal.progress(os.path.basename(out), 2, quiet, count=True) as step, terminal.hushed(verbose):
        from caffe2tf.keras_model import device as devices

        with devices.running(device):
            data = visualizing.activations(net, image, layers, kind, step)
    _write(out, data, force, quiet)


@visualize.command("graph")
@click.argument("model", type=_FILE)
@_prototxt
@_out()
@_input_shape
@_force
@_quiet
@_verbose
def visualize_graph(model, prototxt, out, input_shapes, force, quiet, verbose):
    """Draw the network from its inputs down.

    Boxes say layers, types, output shapes and parameters. MODEL may be a network text. Layers that work in place stand in the box of the layer that they change.

    \b
    Example:
      caffe2tf visualize graph deploy.prototxt -o network.svg
    """
    from caffe2tf.drawing import visualize as visualizing
    from caffe2tf.inspection import summary as inspection

    out = out or f"{_stem(model)}-graph.svg"
    kind = _target(out, force, [model, prototxt])
    net = inspection.load(model, prototxt, input_shapes)
    _notes(net.notes, quiet or not verbose)
    _write(out, visualizing.network(net, kind), force, quiet)


@visualize.command("all")
@click.argument("model", type=_FILE)
@click.argument("image", type=_FILE)
@_prototxt
@_out("FILE.html")
@_device
@_input_shape
@_force
@_quiet
@_verbose
def visualize_all(model, image, prototxt, out, device, input_shapes, force, quiet, verbose):
    """Write all of that as one page.

    Top classes, first filters, what every convolution and pooling makes of IMAGE, and the graph; nothing outside the file.

    \b
    Example:
      caffe2tf visualize all squeezenet.caffemodel cat.jpg -o squeezenet.html
    """
    from caffe2tf import formats
    from caffe2tf.cli import terminal
    from caffe2tf.drawing import visualize as visualizing
    from caffe2tf.inspection import summary as inspection

    out = out or f"{_stem(model)}-{_stem(image)}.html"
    formats.check_targets([out], force, sources=[path for path in (model, image, prototxt) if path])
    net = inspection.load(model, prototxt, input_shapes)
    _notes(net.notes, quiet or not verbose)
    count = visualizing.steps(net)
    with terminal.progress(os.path.basename(out), count, quiet, count=True) as step, terminal.hushed(verbose):
        from caffe2tf.keras_model import device as devices

        with devices.running(device):
            page = visualizing.everything(net, image, step)
    _write(out, page.encode(), force, quiet)


@main.command(short_help="Fetch a published model, or its golden photographs.")
@click.argument("name", required=False)
@click.option("-o", "--out", "folder", default=".", metavar="DIR", help="Where to.  [default: this folder]")
@click.option("--list", "listing", is_flag=True, help="What can be fetched.")
@_quiet
def download(name, folder, listing, quiet):
    """Fetch a published model, or the photographs of its golden predictions, and check its digest.

    \b
    Examples:
      caffe2tf download --list
      caffe2tf download bvlc_alexnet
    """
    from caffe2tf.samples import download as downloading

    if listing or name is None:
        if not listing:
            raise click.UsageError("name what to fetch, or --list")
        for known, entries in downloading.catalogue().items():
            for address, digest, _ in entries:
                echo(f"{known}  {address}  {digest}")
        return
    for path in downloading.fetch(name, folder, progress=sys.stderr.isatty() and not quiet):
        echo(path)


@main.command(short_help="Sample, convert and verify in a temporary folder.")
@_device
@_verbose
def demo(device, verbose):
    """Show all of it in a temporary folder: write the full-size AlexNet, convert it, verify it against Caffe.

    \b
    Example:
      caffe2tf demo
    """
    from caffe2tf.cli import terminal
    from caffe2tf.samples import demo as demonstration

    passed = demonstration.run(
        echo, lambda report: _print_report(report, verbose), lambda: terminal.hushed(verbose), device
    )
    if not passed:
        sys.exit(1)


@main.command(short_help="Print the script that completes commands in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell):
    """Print the script by which SHELL completes commands, options and file names.

    \b
    Examples, one line for each shell's own start-up file:
      bash  eval "$(caffe2tf completion bash)"                           in ~/.bashrc
      zsh   eval "$(caffe2tf completion zsh)"                            in ~/.zshrc, after compinit
      fish  caffe2tf completion fish > ~/.config/fish/completions/caffe2tf.fish   once
    """
    from click.shell_completion import get_completion_class

    # Of the command as it is installed, however this was started.
    echo(get_completion_class(shell)(main, {}, "caffe2tf", "_CAFFE2TF_COMPLETE").source())
