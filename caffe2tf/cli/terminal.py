"""What the commands print: tables and progress bars on a terminal, plain columns and silence in a pipe.

Rich leaves colours out where NO_COLOR is set, and block characters where the terminal's encoding has none.
"""

import contextlib
import os
import re
import sys

import click


def _drawn():
    """Whether stdout takes drawing: a terminal, or whatever FORCE_COLOR says is one, as Rich itself sees it."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def any_encoding():
    """Characters that stdout or stderr cannot hold, or file names that are no text, are written as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def plain(text, keep=""):
    """`text` with control characters as escapes, those of `keep` aside: a name in a file may hold what moves the cursor,
    sets a terminal's title or turns the direction of writing."""
    return _CONTROL.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text)


def echo(text="", err=False):
    """Prints lines to stdout, or stderr, control characters as escapes."""
    click.echo(plain(str(text), "\n\t"), err=err)


def table(columns, rows, title=None, spare=()):
    """Prints rows of strings to stdout. A column that starts with '>' is aligned right.

    A float is a share: a bar on a terminal, a percentage in a pipe. The columns `spare` are left out, one after the other,
    while a terminal is too narrow for all.
    """
    rows = [[cell if isinstance(cell, float) else plain(cell) for cell in row] for row in rows]
    title = title and plain(title)
    if _drawn():
        _draw(columns, rows, title, spare)
        return
    right = [column.startswith(">") for column in columns]
    rows = [[f"{cell:.1%}" if isinstance(cell, float) else cell for cell in row] for row in rows]
    lines = [[column.lstrip(">") for column in columns], *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    if title:
        print(title)
    for line in lines:
        cells = (
            cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(line, widths, right, strict=True)
        )
        print("  ".join(cells).rstrip())


def _draw(columns, rows, title, spare):
    from rich.bar import Bar
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    unbounded = console.options.update(max_width=1 << 16)
    for count in range(len(spare) + 1):
        shown = [index for index, column in enumerate(columns) if column.lstrip(">") not in spare[:count]]
        drawn = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
        for name in (columns[index] for index in shown):
            drawn.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
        for row in rows:
            cells = [row[index] for index in shown]
            drawn.add_row(*(Bar(1, 0, c, width=8, color="cyan") if isinstance(c, float) else c for c in cells))
        if Measurement.get(console, unbounded, drawn).maximum <= console.width:
            break
    console.print(drawn)


@contextlib.contextmanager
def progress(what, total, quiet=False, count=False):
    """Gives a function that takes bytes done, or with `count` pieces; draws a bar on stderr where that is a terminal, a
    pulsing one where `total` is None."""
    if quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn

    amount = [] if total is None else [MofNCompleteColumn() if count else DownloadColumn()]
    columns = TextColumn("{task.description}", markup=False), BarColumn(), *amount
    # A stream of its own, which `hushed` does not silence.
    with (
        os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="replace") as stream,
        Progress(*columns, console=Console(file=stream, force_terminal=True), transient=True) as bars,
    ):
        task = bars.add_task(plain(what), total=total)
        yield lambda done: bars.advance(task, done)


@contextlib.contextmanager
def hushed(verbose=False):
    """Keeps what C++ libraries write to stdout and stderr by themselves (TensorFlow's start-up) from the user."""
    if verbose:
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(stream, os.dup(stream)) for stream in (1, 2)]
    with open(os.devnull, "wb") as nowhere:
        try:
            for stream, _ in kept:
                os.dup2(nowhere.fileno(), stream)
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(BrokenPipeError):
                    stream.flush()
            for stream, copy in kept:
                os.dup2(copy, stream)
                os.close(copy)


def hushed_each(items, verbose=False):
    """The `items`, each made under `hushed`: what uses them may print."""
    items, end = iter(items), object()
    while True:
        with hushed(verbose):
            item = next(items, end)
        if item is end:
            return
        yield item


def bars(title, values):
    """Prints (name, share) pairs below `title`, on a terminal with bars."""
    title, values = plain(title), [(plain(name), share) for name, share in values]
    print(title)
    if not _drawn():
        for name, share in values:
            print(f"  {share:8.4%}  {name}")
        return
    from rich.console import Console
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", no_wrap=True, min_width=11)
    grid.add_column(width=24)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for name, share in values:
        grid.add_row(
            f"  {share:.4%}", ProgressBar(1, share, width=24, complete_style="cyan", finished_style="cyan"), name
        )
    Console(highlight=False, markup=False).print(grid)
