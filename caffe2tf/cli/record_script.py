"""`caffe2tf record-script`: the file that records a golden set where Caffe is."""

import click

from caffe2tf.cli import terminal

PLACE = 8


@click.command(short_help="Print the script that records a golden set where Caffe is.")
def command() -> None:
    """Print a script that records a golden set of your network: every blob as Caffe computes it, for `caffe2tf verify`.

    It runs alone, on Python 2.7 or 3, wherever pycaffe and NumPy are, such as in BVLC's image for Docker.

    \b
    Example:
      caffe2tf record-script > record.py
      docker run --rm -v "$PWD":/net -w /net bvlc/caffe:cpu python record.py deploy.prototxt net.caffemodel my_golden
      caffe2tf verify deploy.prototxt net.caffemodel --golden my_golden
    """
    from caffe2tf import bundled

    terminal.echo(bundled.record_script().rstrip("\n"))
