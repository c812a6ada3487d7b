"""What the commands print: tables and progress bars on a terminal, plain columns and silence in a pipe.

Rich leaves colours out where NO_COLOR is set, and block characters where the terminal's encoding has none.
"""

import contextlib
import os
import sys


def _drawn():
    """Whether stdout takes drawing: a terminal, or whatever FORCE_COLOR says is one, as Rich itself sees it."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def any_encoding():
    """Characters that stdout or stderr cannot hold, or file names that are no text, are written as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def table(columns, rows, title=None):
    """Prints rows of strings to stdout. A column that starts with '>' is aligned right."""
    if _drawn():
        from rich.console import Console
        from rich.table import Table

        drawn = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
        for column in columns:
            drawn.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
        for row in rows:
            drawn.add_row(*row)
        Console(highlight=False, markup=False).print(drawn)
        return
    right = [column.startswith(">") for column in columns]
    lines = [[column.lstrip(">") for column in columns], *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    if title:
        print(title)
    for line in lines:
        cells = (
            cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(line, widths, right, strict=True)
        )
        print("  ".join(cells).rstrip())


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
    columns = TextColumn("{task.description}"), BarColumn(), *amount
    # A stream of its own, which `hushed` does not silence.
    with (
        os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="replace") as stream,
        Progress(*columns, console=Console(file=stream, force_terminal=True), transient=True) as bars,
    ):
        task = bars.add_task(what, total=total)
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


def shape(extents):
    """`2 x 3 x 4`, `?` for an extent that nothing tells, `scalar` for none."""
    return " x ".join("?" if extent is None else str(extent) for extent in extents) or "scalar"


def size(count):
    """Bytes for people: `243.9 MB`."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def bars(title, values):
    """Prints (name, share) pairs below `title`, on a terminal with bars."""
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
