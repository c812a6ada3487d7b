"""`caffe2tf download`: published models and photographs, checked by their digests."""

import sys

import click

from caffe2tf.cli import options, sections, terminal

PLACE = 8


def _names() -> list[str]:
    from caffe2tf.samples import download

    return list(download.catalogue())


@click.command(cls=sections.Command, short_help="Fetch a published model, or its golden photographs.")
@click.argument("name", required=False, shell_complete=sections.offered(_names))
@sections.writing("-o", "--out", "folder", default=".", metavar="DIR", help="Where to.  [default: this folder]")
@sections.writing("--list", "listing", is_flag=True, help="Say what can be fetched.")
@options.quiet
def command(name: str | None, folder: str, listing: bool, quiet: bool) -> None:
    """Fetch a published model, or the photographs of its golden predictions, and check its digest.

    \b
    Examples:
      caffe2tf download --list
      caffe2tf download bvlc_alexnet
    """
    from caffe2tf.samples import download as downloading

    if listing:
        for known, entries in downloading.catalogue().items():
            for address, digest, _ in entries:
                terminal.echo(f"{known}  {address}  {digest}")
        return
    if name is None:
        raise click.UsageError("name what to fetch, or --list")
    for path in downloading.download(name, folder, progress=sys.stderr.isatty() and not quiet):
        terminal.echo(path)
