"""`caffe2tf classify`: what is in pictures, and how often a model is right."""

import contextlib
import csv
import json
import sys

import click

from caffe2tf.cli import options, terminal

PLACE = 5


@click.command(short_help="Say what is in pictures, and how often a model is right.")
@click.argument("model", type=options.MODEL)
@click.argument("arguments", nargs=-1, type=options.FILE, metavar="[PROTOTXT] IMAGE...")
@options.prototxt
@click.option(
    "-k", "--top", type=click.IntRange(1), default=5, show_default=True, help="How many classes to say of each image."
)
@click.option(
    "--labels", type=options.TEXT, metavar="FILE", help="Class names, one a line; ImageNet's for 1000 outputs."
)
@click.option(
    "--truth",
    type=options.TEXT,
    metavar="LIST|DIR",
    help="What the pictures really show: lines `path label`, or a folder for each class.",
)
@click.option(
    "--labels-from-names", is_flag=True, help="What the pictures really show is their file name up to the first dot."
)
@click.option(
    "--csv", "as_csv", is_flag=True, help="Rows on stdout: file,rank,class,name,probability, and truth where known."
)
@options.as_json
@click.option("--plot", callback=options.suffix(".png"), metavar="FILE.png", help="Draw the images with their bars.")
@click.option(
    "--confusion",
    callback=options.suffix(".png", ".csv"),
    metavar="FILE.png|.csv",
    help="Write which class was taken for which, as a table or a picture.",
)
@click.option(
    "--trust", is_flag=True, help="Run a SavedModel that caffe2tf did not write: it can read and write files."
)
@options.device
@options.everyday
def command(
    model: str,
    arguments: tuple[str, ...],
    prototxt: str | None,
    top: int,
    labels: str | None,
    truth: str | None,
    labels_from_names: bool,
    as_csv: bool,
    as_json: bool,
    plot: str | None,
    confusion: str | None,
    trust: bool,
    device: str,
    input_shape: options.Shapes,
    outputs: options.Outputs,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Say what is in pictures: the most probable classes with names and probabilities.

    MODEL is a .caffemodel, weights that caffe2tf wrote, a .keras, .onnx or .tflite file, a SavedModel folder or the folder
    of `caffe2tf finetune`; PROTOTXT the network text, where MODEL needs one, in either order; IMAGE a file, a folder, a glob,
    or - for one on standard input.

    With --truth or --labels-from-names it counts how often the model is right (top-1, top-5) and for few classes prints
    the confusion matrix. A label is a class name, one of its synonyms, a WordNet id or a number; paths in a list are
    relative to the list, and without IMAGE all of it is taken. A picture that cannot be read is listed and left out, and
    the exit code is 1.

    \b
    Examples:
      caffe2tf classify squeezenet.caffemodel cat.jpg
      caffe2tf classify deploy.prototxt net.caffemodel cat.jpg
      caffe2tf classify net.keras photographs/ --plot seen.png
      caffe2tf classify net.tflite 'holidays/*.jpg' --labels names.txt --csv > seen.csv
      caffe2tf classify finetuned/ --truth test.txt --confusion confusion.png
      curl -s https://example.org/cat.jpg | caffe2tf classify squeezenet.caffemodel - --json
    """
    from caffe2tf import formats
    from caffe2tf.classification import labels as labelling
    from caffe2tf.errors import escaped

    text, model, images = options.leading([model, *arguments], prototxt)
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
        loading = terminal.progress(f"loading {options.name(model)}", None, quiet)
        with loading, terminal.hushed(verbose), terminal.notes(verbose and not quiet):
            from caffe2tf.classification import classifier as classifying
            from caffe2tf.classification import score as scores
            from caffe2tf.keras_model import device as devices

            stack.enter_context(devices.running(device))
            many = len(paths) > classifying.MANY
            classifier = classifying.load(model, text, labels, input_shape, many, device, trust, outputs)
        numbers = labelling.numbers(written, classifier.names, classifier.ids) if written else None
        score, found = scores.Score(classifier.names), []
        if not quiet:
            terminal.note(f"pictures become input as {classifier.preprocessing} ({classifier.source})")
        # Rows that run over the terminal are progress enough.
        hidden = quiet or len(paths) <= classifying.BATCH or (sys.stdout.isatty() and not as_json)
        step = stack.enter_context(terminal.progress("classifying", len(paths), hidden, count=True))
        rows = csv.writer(sys.stdout, lineterminator="\n")
        if as_csv:
            rows.writerow(classifying.COLUMNS[: None if written else -1])
        for seen in terminal.hushed_each(classifier(paths, max(top, scores.TOP), numbers), verbose):
            step(1)
            found.append(seen)
            score.add(seen)
            if as_csv:
                rows.writerows([escaped(str(cell)) for cell in row] for row in classifying.rows(seen, top))
            elif seen.top and not as_json:
                verdict = "" if not seen.label else "  ok" if seen.right else f"  WRONG, is {seen.label[1]}"
                terminal.bars(f"{seen.file}{verdict}", [(name, p) for _, name, p in seen.top[:top]])
    notes = [seen.note for seen in found if seen.note]
    if plot:
        with terminal.hushed(verbose):  # of characters that matplotlib's font lacks
            notes += classifying.draw(found, plot, force)
    for note in () if quiet else notes:
        terminal.note(note)
    if confusion:
        score.write_confusion(confusion, force)
    if as_json:
        terminal.echo(json.dumps(classifying.as_data(found, top, score), indent=1))
    elif written and as_csv:
        terminal.echo(score, err=True)
    elif written:
        terminal.echo(f"\n{score}")
        if score.few:
            terminal.echo()
            terminal.table(*score.confusion_table())
    unread = [seen.error for seen in found if seen.error]
    for line in unread:
        terminal.echo(f"caffe2tf: {line}", err=True)
    if unread:
        if len(found) > 1:
            terminal.echo(f"caffe2tf: {len(unread)} of {len(found)} pictures cannot be read", err=True)
        sys.exit(options.NO)
