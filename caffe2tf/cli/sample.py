"""`caffe2tf sample`: networks and pictures to try everything on, without a download."""

import os

import click

from caffe2tf.cli import options, sections, terminal

PLACE = 3


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from caffe2tf.samples import sample as samples

    return [name for name in samples.SAMPLES if name.startswith(incomplete)]


@click.command(cls=sections.Command, short_help="Write networks and pictures to try everything on.")
@click.argument("name", required=False, shell_complete=_names)
@click.argument("place", type=options.FILE, required=False)
@sections.writing("--list", "listing", is_flag=True, help="Say what there is.")
@options.force
@options.quiet
@options.verbose
def command(name: str | None, place: str | None, listing: bool, force: bool, quiet: bool, verbose: bool) -> None:
    """Write the sample NAME to PLACE, or to this folder under its own name; nothing is downloaded.

    By default, or where another file is named alone, it is the full-size AlexNet with seeded weights (244 MB): the same on every machine
    and in the encoding of the published one, but it does not know pictures. squeezenet does: it is trained on ImageNet.

    \b
    Examples:
      caffe2tf sample && caffe2tf convert bvlc_alexnet.caffemodel
      caffe2tf sample squeezenet && caffe2tf sample photographs
      caffe2tf classify squeezenet_v1.0.caffemodel photographs/
    """
    from caffe2tf import words
    from caffe2tf.files import replacing as files
    from caffe2tf.samples import sample as samples

    if listing:
        rows = [[key, one.place, words.size(one.size), one.words] for key, one in samples.SAMPLES.items()]
        terminal.table(["name", "writes", ">size", "what it is"], rows)
        return
    if name is not None and place is None and _is_file(name):
        name, place = samples.meant(name), name
    known = samples.find(name or "alexnet")
    place = place or known.place
    with terminal.progress(options.name(place), known.size, quiet) as step, terminal.notes(not quiet):
        paths = known.write(place, force, step)
    if not quiet:
        for path, what in zip(paths, (known.words, "its network text"), strict=False):
            terminal.echo(f"{path}  {what}  {words.size(files.size(path))}")


def _is_file(name: str) -> bool:
    """Whether an argument is rather a file than the name of a sample: samples have neither dots nor separators."""
    return "." in name or os.sep in name or "/" in name
