"""`caffe2tf demo`: all of it, and a page that shows it."""

import sys

import click

from caffe2tf.cli import options, sections, terminal
from caffe2tf.cli.verify import show

PLACE = 9


@click.command(cls=sections.Command, short_help="Convert, verify, classify and train, and show it all as a page.")
@sections.running("--fast", is_flag=True, help="AlexNet alone: write, convert and verify it, and leave nothing.")
@options.device
@options.force
@options.verbose
def command(fast: bool, device: str, force: bool, verbose: bool) -> None:
    """Show all of it without a download: the full-size AlexNet with seeded weights, converted and verified against Caffe; then
    a SqueezeNet trained on ImageNet, verified, looking at three photographs, and with a new head for handwritten digits.

    It works in a temporary folder and leaves one page, caffe2tf-demo/report.html.

    \b
    Examples:
      caffe2tf demo
      caffe2tf demo --fast
    """
    from caffe2tf.samples import demo

    told = demo.Told(
        terminal.echo, lambda report: show(report, verbose), terminal.bars, lambda: terminal.hushed(verbose)
    )
    passed = demo.fast(told, device) if fast else demo.run(told, force=force, device=device)
    if not passed:
        sys.exit(options.NO)
