"""`caffe2tf verify`: a model against Caffe's own results, or a judge's, layer by layer."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from caffe2tf import spent
from caffe2tf.cli import options, sections, terminal

if TYPE_CHECKING:
    from caffe2tf.verification.compare import Report
    from caffe2tf.verification.hearing import Dispute

PLACE = 4


@click.command(cls=sections.Command, short_help="Compare with Caffe's results or a judge's, layer by layer.")
@click.argument("model", type=options.NETWORK, required=False)
@click.argument("text", type=options.NETWORK, required=False, metavar="[PROTOTXT]")
@options.prototxt
@sections.reading("--golden", "sets", multiple=True, metavar="DIR", help="A golden set of the network. Repeatable.")
@sections.reading(
    "--against",
    multiple=True,
    metavar="opencv|reference|golden|DIR",
    shell_complete=sections.offered(lambda: ("opencv", "reference", "golden")),
    help="OpenCV, every layer in float64, a golden set that comes along, or one of yours. Repeatable.",
)
@sections.reading(
    "--original",
    multiple=True,
    type=options.NETWORK,
    metavar="FILE",
    help="The .caffemodel that MODEL was converted from, for a judge to read; once more for its text.",
)
@sections.reading(
    "--images",
    type=options.FILE,
    metavar="DIR",
    help="Folder of the photographs of published predictions; for a judge any pictures, instead of noise.",
)
@sections.running("-y", "--yes", is_flag=True, help="Wait for the reference, however long it takes.")
@options.device
@sections.running(
    "--precision",
    type=click.Choice(["float32", "tf32", "mixed_float16"]),
    default="float32",
    show_default=True,
    help="The numbers that it computes with; less exact ones get a larger tolerance.",
)
@sections.writing("--report", "page", metavar="FILE.html", help="Write the same as one self-contained page.")
@options.as_json
@options.everyday
def command(
    model: str | None,
    text: str | None,
    prototxt: str | None,
    sets: tuple[str, ...],
    against: tuple[str, ...],
    original: tuple[str, ...],
    images: str | None,
    yes: bool,
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
    """Run MODEL on inputs for which Caffe's own results are known, or a judge's, and compare layer by layer.

    Names the first layer that is wrong. Exit code 0 only if everything holds. Without --against a golden set is chosen by
    the weights: the seeded AlexNet's, the trained SqueezeNet's, or the published predictions of bvlc_alexnet (with
    --images). For any other network OpenCV 4 reads the same files and is the judge, or where it cannot the reference, which
    computes every layer in float64. PROTOTXT is the network text, where MODEL needs one; the two may come in either order.

    \b
    Examples:
      caffe2tf verify bvlc_alexnet.caffemodel
      caffe2tf verify deploy.prototxt net.caffemodel --against opencv --against reference
      caffe2tf verify deploy.prototxt net.npz --original net.caffemodel --report report.html
      caffe2tf verify deploy.prototxt net.caffemodel --against my_golden/
    """
    with spent.on("imports"):
        from caffe2tf import formats, loading
        from caffe2tf.files import replacing as files
        from caffe2tf.verification import judges
        from caffe2tf.verification import report as reports
        from caffe2tf.verification.verify import hearing

    prototxt, model = options.network(model, text, prototxt=prototxt)
    model = model or formats.model_here()
    if page:
        formats.check_targets([page], force)
    with terminal.hushed(verbose), terminal.notes(verbose and not quiet):
        net = loading.load(prototxt=prototxt, model=model, input_shape=input_shape, outputs=outputs)
    with terminal.hushed(verbose):
        read = original or judges.files(prototxt, model)
        heard = hearing(net, [*sets, *against] or [None], images, device, precision, read, yes)
        found = heard.reports
    if page:
        from caffe2tf.verification import page as page_of

        files.write_text(page, page_of.as_html(found, heard.disputes), force)
    if as_json:
        terminal.echo(json.dumps(reports.as_data(found, heard.disputes), indent=1))
    elif not quiet:
        for one in found:
            show(one, verbose)
            if len(found) > 1:
                terminal.echo()
        if heard.disputes:
            show_disputes(heard.disputes)
    if not heard.passed:
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
        against = f"{report.name or 'network'} against {reports.against(report)} ({running})"
        terminal.table(columns, rows, f"{against}, relative L2 errors, tolerance {report.tolerance:.2g}")
    for file, digest in report.files:
        terminal.echo(f"tested: {file}  SHA-256 {digest}")
    if report.judge:
        terminal.echo(f"\nread: {report.judge.read}\nfed:  {report.judge.fed}")
    for note in report.notes:
        terminal.echo(f"note: {terminal.with_flags(note, command)}")
    if report.unjudged:
        terminal.echo()
        terminal.table(["not judged", "why"], [[layer, why] for layer, why in report.unjudged.items()])
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


def show_disputes(disputes: "Sequence[Dispute]") -> None:
    """Prints who differs from whom, blob by blob."""
    from caffe2tf.verification import report as reports

    pairs = list(disputes[0].apart)
    rows = [
        [
            " + ".join(one.layers),
            one.blob,
            *(f"{one.apart[pair]:.2g}" for pair in pairs),
            one.alone or ("-" if one.agreed else "?"),
        ]
        for one in disputes
    ]
    columns = ["layer", "blob", *(f">{one} - {other}" for one, other in pairs), "alone"]
    terminal.table(columns, rows, "who differs from whom, relative L2 differences")
    terminal.echo(f"\n{reports.settled(disputes)}")
