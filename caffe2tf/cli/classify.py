"""`caffe2tf classify`: what is in pictures, and how often a model is right."""

import contextlib
import sys
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import click

from caffe2tf import spent
from caffe2tf.cli import options, sections, terminal

if TYPE_CHECKING:
    from caffe2tf.classification.seen import Seen

PLACE = 5


def _share(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """(3, 16) of "3/16"."""
    if value is None:
        return None
    part, _, whole = value.partition("/")
    digits = all(text.isascii() and text.isdecimal() and len(text) < 10 for text in (part, whole))
    if not digits or not 1 <= int(part) <= int(whole):
        raise click.BadParameter(f"'{value}'; takes a part of all, 1/16 to 16/16")
    return int(part), int(whole)


@click.command(cls=sections.Command, short_help="Say what is in pictures, and how often a model is right.")
@click.argument("model", type=options.NETWORK, required=False)
@click.argument("arguments", nargs=-1, type=options.FILE, metavar="[PROTOTXT] IMAGE...")
@options.prototxt
@sections.writing(
    "-k",
    "--top",
    type=click.IntRange(1),
    metavar="N",
    help="How many classes or boxes to say of each image.  [default: 5, all boxes]",
)
@sections.writing(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="X",
    help="Leave out classes and boxes of a lower probability or score.",
)
@options.pictures
@sections.picturing(
    "--crops",
    type=click.Choice(["1", "10"]),
    default="1",
    show_default=True,
    help="See the centre, or the corners, the centre and their mirror images, and average what the network says.",
)
@sections.reading(
    "--labels", type=options.TEXT, metavar="FILE", help="Class names, one a line; ImageNet's for 1000 outputs."
)
@sections.reading(
    "--truth",
    type=options.TEXT,
    metavar="LIST|DIR",
    help="What the pictures really show: lines `path label`, or a folder for each class.",
)
@sections.reading(
    "--labels-from-names", is_flag=True, help="What the pictures really show is their file name up to the first dot."
)
@sections.writing(
    "--csv", "as_csv", is_flag=True, help="Rows on stdout: file,rank,class,name,probability, and truth where known."
)
@options.as_json
@sections.writing(
    "--out",
    callback=options.suffix(".csv", ".jsonl", ".parquet"),
    metavar="FILE.csv|.jsonl|.parquet",
    help="Write what is seen to a file that grows picture by picture; a .parquet is a folder of parts.",
)
@sections.writing("--resume", is_flag=True, help="Go on with --out, leaving out the pictures that are there.")
@sections.reading(
    "--shard",
    callback=_share,
    metavar="N/OF",
    help="Take a part of the pictures alone: 3/16 is every 16th from the third.",
)
@sections.writing(
    "--plot", callback=options.suffix(".png"), metavar="FILE.png", help="Draw the images with their bars."
)
@sections.writing(
    "--confusion",
    callback=options.suffix(".png", ".csv"),
    metavar="FILE.png|.csv",
    help="Write which class was taken for which, as a table or a picture.",
)
@sections.reading(
    "--trust", is_flag=True, help="Run a SavedModel that caffe2tf did not write: it can read and write files."
)
@options.device
@options.everyday
def command(
    model: str | None,
    arguments: tuple[str, ...],
    prototxt: str | None,
    top: int | None,
    threshold: float,
    crops: str,
    labels: str | None,
    truth: str | None,
    labels_from_names: bool,
    as_csv: bool,
    as_json: bool,
    out: str | None,
    resume: bool,
    shard: tuple[int, int] | None,
    plot: str | None,
    confusion: str | None,
    trust: bool,
    device: str,
    input_shape: options.Shapes,
    outputs: options.Outputs,
    force: bool,
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> None:
    """Say what is in pictures: the most probable classes with names and probabilities, or what a detector finds, with its boxes.

    MODEL is a .caffemodel, weights that caffe2tf wrote, a .keras, .onnx or .tflite file, a SavedModel folder or the folder
    of `caffe2tf finetune`, by default the .caffemodel in this folder; PROTOTXT the network text, where MODEL needs one, in
    either order; IMAGE a file, a folder, a glob,
    or - for one on standard input.

    With --truth or --labels-from-names it counts how often the model is right (top-1, top-5) and for few classes prints
    the confusion matrix. A label is a class name, one of its synonyms, a WordNet id or a number; paths in a list are
    relative to the list, and without IMAGE all of it is taken. A picture that cannot be read is listed and left out, and
    the exit code is 1.

    Pictures are read, seen and written as they come, in memory that does not grow with them. --out keeps what is written when a run
    is killed, and --resume goes on; --shard shares the pictures among machines.

    \b
    Examples:
      caffe2tf classify squeezenet.caffemodel cat.jpg
      caffe2tf classify deploy.prototxt net.caffemodel cat.jpg
      caffe2tf classify net.keras photographs/ --plot seen.png
      caffe2tf classify net.tflite 'holidays/*.jpg' --labels names.txt --csv > seen.csv
      caffe2tf classify finetuned/ --truth test.txt --confusion confusion.png
      caffe2tf classify net.caffemodel archive/ --out seen.csv --resume --shard 3/16
      caffe2tf classify ssd.prototxt ssd.caffemodel street.jpg --threshold 0.5 --plot boxes.png
      curl -s https://example.org/cat.jpg | caffe2tf classify squeezenet.caffemodel - --json
    """
    with spent.on("imports"):
        from caffe2tf import formats
        from caffe2tf.classification import classifier as classifying
        from caffe2tf.classification import growing, results
        from caffe2tf.classification import labels as labelling
        from caffe2tf.classification import score as scores
        from caffe2tf.classification.seeing import BATCH, MANY
        from caffe2tf.files import digests
        from caffe2tf.images import decode as imaging
        from caffe2tf.keras_model import device as devices

    given = [file for file in (model, *arguments) if file is not None]
    if not given and not truth:
        raise click.UsageError("Missing argument 'IMAGE...'.")
    if not given or labelling.is_picture(given[0]):  # the model is the one of this folder
        given.insert(0, formats.model_here())
    text, model, images = options.leading(given, prototxt)
    _check_usage(images, bool(truth), labels_from_names, as_csv, as_json, out, resume, force, confusion)
    labelled = bool(truth or labels_from_names)
    paths, written = labelling.each(images, truth, labels_from_names, shard or (1, 1))
    targets = [path for path in (plot, confusion) if path]
    read = [path for path in targets if imaging.reads(images, path)]
    formats.check_targets(targets, force, sources=[*read, model])
    if out:
        growing.check(out, resume, force)
    with contextlib.ExitStack() as stack:
        loading = terminal.progress(f"loading {options.name(model)}", None, quiet)
        with loading, terminal.hushed(verbose), terminal.notes(verbose and not quiet):
            stack.enter_context(devices.running(device))
            first = list(islice(paths, MANY + 1))
            many = len(first) > MANY
            classifier = classifying.load(
                model, text, labels, input_shape, many, device, trust, outputs, int(crops), settings
            )
        if classifier.detects and labelled:
            raise click.UsageError(f"{model} finds boxes, which are not compared with what is in the pictures")
        numbers = labelling.numbers(written, classifier.names, classifier.ids) if written is not None else None
        top = top if top is not None or classifier.detects else classifying.TOP
        score, shown, unread, counts = scores.Score(classifier.names), list["Seen"](), list[str](), [0, 0]
        tested = {"file": model, "sha256": digests.digest(model)} if as_json or not quiet else {}
        if not quiet:
            if classifier.warning:
                terminal.note(classifier.warning)
            terminal.note(f"{model}, SHA-256 {tested['sha256']}")
            terminal.note(f"pictures become input as {classifier.described} ({classifier.source})")
        # Rows that run over the terminal are progress enough.
        silent = out is not None and not (as_csv or as_json)
        hidden = quiet or (not many and len(first) <= BATCH) or (sys.stdout.isatty() and not as_json and not silent)
        step = stack.enter_context(terminal.progress("classifying", None, hidden, count=True))
        ahead: Iterator[str] = chain(first, paths)
        kept = stack.enter_context(growing.growing(out, classifier.detects, labelled, resume, force)) if out else None
        if kept is not None and len(kept.names):
            ahead, numbers = labelling.left(ahead, numbers, kept.names)

        def seen() -> Iterator["Seen"]:
            """What comes, told to all that wait for it."""
            most = None if top is None else max(top, scores.TOP)
            for one in terminal.hushed_each(classifier(ahead, most, numbers), verbose):
                step(1)
                score.add(one)
                one = results.above(one, threshold)
                counts[0] += 1
                if one.error:
                    unread.append(one.error)
                else:
                    counts[1] += 1
                    if kept is not None:
                        kept.add(one, top)
                    if plot and len(shown) < results.DRAWN:
                        shown.append(one)
                    if one.note and not quiet:
                        terminal.note(one.note)
                yield one

        if as_json:
            for line in results.as_json(seen(), top, score, tested):
                terminal.echo(line)
        elif as_csv:
            terminal.echo(results.csv_row(results.columns(classifier.detects, labelled)), nl=False)
            for one in seen():
                terminal.echo("".join(map(results.csv_row, results.rows(one, top))) if not one.error else "", nl=False)
        else:
            for one in seen():
                if not one.error and not silent:
                    _print(one, top)
    if kept is not None and not quiet:
        beside = ", beside those of an earlier run" if len(kept.names) else ""
        terminal.echo(f"{out}  {counts[1]:,} picture{'' if counts[1] == 1 else 's'}{beside}", err=as_csv or as_json)
    if plot:
        with terminal.hushed(verbose):  # of characters that matplotlib's font lacks
            notes = results.draw(shown, counts[1], plot, force)
        for note in () if quiet else notes:
            terminal.note(note)
    if confusion:
        score.write_confusion(confusion, force)
    if labelled and as_csv:
        terminal.echo(score, err=True)
    elif labelled and not as_json:
        terminal.echo(f"\n{score}")
        if score.few:
            terminal.echo()
            terminal.table(*score.confusion_table())
    for line in unread:
        terminal.echo(f"caffe2tf: {line}", err=True)
    if unread:
        if counts[0] > 1:
            terminal.echo(f"caffe2tf: {len(unread)} of {counts[0]} pictures cannot be read", err=True)
        sys.exit(options.NO)


def _check_usage(
    images: list[str],
    truth: bool,
    labels_from_names: bool,
    as_csv: bool,
    as_json: bool,
    out: str | None,
    resume: bool,
    force: bool,
    confusion: str | None,
) -> None:
    if as_csv and as_json:
        raise click.UsageError("--csv and --json both go to stdout; take one")
    if truth and labels_from_names:
        raise click.UsageError("--truth and --labels-from-names both say what is in the pictures; take one")
    if not images and not truth:
        raise click.UsageError("Missing argument 'IMAGE...'.")
    if confusion and not (truth or labels_from_names):
        raise click.UsageError("--confusion compares with what is in the pictures; say that with --truth")
    if resume and not out:
        raise click.UsageError("--resume goes on with a file; name it with --out")
    if resume and force:
        raise click.UsageError("--resume goes on with what --force would replace")


def _print(seen: "Seen", top: int | None) -> None:
    """Prints a picture with its classes or boxes, and whether the first is right."""
    verdict = (
        "" if seen.label is None or seen.right is None else "  ok" if seen.right else f"  WRONG, is {seen.label[1]}"
    )
    if seen.boxes is None:
        terminal.bars(f"{seen.file}{verdict}", [(name, p) for _, name, p in seen.top[:top]])
        return
    columns = ["class", ">score", ">left", ">top", ">right", ">bottom"]
    boxes = [[box.name, f"{box.score:.4f}", *(f"{corner:.1f}" for corner in box[3:])] for box in seen.boxes[:top]]
    terminal.table(columns, boxes, seen.file)
