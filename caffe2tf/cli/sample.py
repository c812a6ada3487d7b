"""`caffe2tf sample`: a network of full size to try everything on, without a download."""

import click

from caffe2tf.cli import options, terminal

PLACE = 3


@click.command(short_help="Write the full-size AlexNet with seeded weights.")
@click.argument("file", type=options.FILE, default="bvlc_alexnet.caffemodel")
@options.force
@options.quiet
@options.verbose
def command(file: str, force: bool, quiet: bool, verbose: bool) -> None:
    """Write the full-size AlexNet with seeded weights to FILE (244 MB; bvlc_alexnet.caffemodel by default).

    The file is the same on every machine and in the encoding of the published one: V1 layers, a snapshot of the
    training phase. The network does not know pictures, but every command can be tried on it.

    \b
    Example:
      caffe2tf sample && caffe2tf convert bvlc_alexnet.caffemodel
    """
    from caffe2tf import formats, words
    from caffe2tf.files import replacing as files
    from caffe2tf.samples import networks as seeded

    formats.check_targets([file], force)
    with terminal.progress(options.name(file), seeded.BYTES, quiet) as step:
        seeded.write(file, force, progress=step)
    if not quiet:
        terminal.echo(f"{file}  AlexNet, seed {seeded.SEED}  {words.size(files.size(file))}")
