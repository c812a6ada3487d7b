"""`caffe2tf demo`: all of it in a temporary folder."""

import sys

import click

from caffe2tf.cli import options, terminal
from caffe2tf.cli.verify import show

PLACE = 9


@click.command(short_help="Sample, convert and verify in a temporary folder.")
@options.device
@options.verbose
def command(device: str, verbose: bool) -> None:
    """Show all of it in a temporary folder: write the full-size AlexNet, convert it, verify it against Caffe.

    \b
    Example:
      caffe2tf demo
    """
    from caffe2tf.samples import demo as demonstration

    passed = demonstration.run(
        terminal.echo, lambda report: show(report, verbose), lambda: terminal.hushed(verbose), device
    )
    if not passed:
        sys.exit(options.NO)
