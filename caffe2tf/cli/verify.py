"""`caffe2tf verify`: a model against Caffe's own results, layer by layer."""

import json
import sys
from typing import TYPE_CHECKING

import click

from caffe2tf.cli import options, terminal

if TYPE_CHECKING:
    from caffe2tf.verification.compare import Report

PLACE = 4


@click.command(short_help="Compare a model with Caffe's own results, layer by layer.")
@click.argument("model", type=options.NETWORK, required=False)
@click.argument("text", type=options.NETWORK, required=False, metavar="[PROTOTXT]")
@options.prototxt
@click.option("--golden", "sets", multiple=True, metavar="DIR", help="A golden set of the network. Repeatable.")
@click.option("--images", type=options.FILE, metavar="DIR", help="Folder of the photographs of published predictions.")
@options.device
@click.option(
    "--precision",
    type=click.Choice(["float32", "tf32", "mixed_float16"]),
    default="float32",
    show_default=True,
    help="The numbers that it computes with; less exact ones get a larger tolerance.",
)
@click.option("--report", "page", metavar="FILE.html", help="Write the same as one self-contained page.")
@options.as_json
@options.everyday
def command(
    model: str | None,
    text: str | None,
    prototxt: str | None,
    sets: tuple[str, ...],
    images: str | None,
    device: str,
    precision: str,
    page: str | None,
    as_json: bool,
    input_shape: options.Shapes,
    outputs: options.Outputs,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Run MODEL on inputs for which Caffe's own results are known, and compare layer by layer.

    Names the first layer that is wrong. Exit code 0 only if everything holds. Without --golden the set is chosen by the
    weights: the seeded AlexNet's, or the published predictions of bvlc_alexnet (with --images). PROTOTXT is the network
    text, where MODEL needs one; the two may come in either order.

    \b
    Examples:
      caffe2tf verify bvlc_alexnet.caffemodel
      caffe2tf verify deploy.prototxt net.npz --golden my_golden/ --report report.html
    """
    from caffe2tf import formats, loading
    from caffe2tf.files import replacing as files

    prototxt, model = options.network(model, text, prototxt=prototxt)
    model = model or formats.model_here()
    if page:
        formats.check_targets([page], force)
    with terminal.notes(verbose and not quiet):
        net = loading.load(prototxt=prototxt, model=model, input_shape=input_shape, outputs=outputs)
    with terminal.hushed(verbose):
        from caffe2tf.verification import report as reports
        from caffe2tf.verification.verify import verify

        found = [verify(net, folder, images, device, precision) for folder in sets or (None,)]
    if page:
        from caffe2tf.verification import page as page_of

        files.write_text(page, page_of.as_html(found), force)
    if as_json:
        terminal.echo(json.dumps(reports.as_data(found), indent=1))
    elif not quiet:
        for one in found:
            show(one, verbose)
    if not all(one.passed for one in found):
        sys.exit(options.NO)


def show(report: "Report", verbose: bool) -> None:
    """Prints a Report: its layers, its predictions (many of them with `verbose` only), and what it comes to."""
    from caffe2tf import bundled, words
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
        against = f"{report.name} against golden set '{report.golden}' ({running})"
        terminal.table(columns, rows, f"{against}, relative L2 errors, tolerance {report.tolerance:g}")
    names, rows = bundled.classes(), []
    for prediction in report.predictions if verbose or len(report.predictions) <= 10 else ():
        (wanted, known), (guess, sure) = prediction.expected[0], prediction.found[0]
        verdict = "ok" if prediction.passed else "WRONG"
        both = f"{names[wanted].split(',')[0]} {known:.4f}", f"{names[guess].split(',')[0]} {sure:.4f}"
        rows.append([prediction.image, *both, {None: "-", True: "same", False: "other"}[prediction.same_set], verdict])
    if rows:
        terminal.echo()
        terminal.table(["image", "expected", "found", "top-5 set", "verdict"], rows)
    said = terminal.with_flags(reports.conclusion(report), command)
    terminal.echo(("\n" if rows or report.layers else "") + said)
