"""What the commands print: tables and progress bars on a terminal, plain columns and silence in a pipe.

Rich leaves colours out where NO_COLOR is set, and block characters where the terminal's encoding has none.
"""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from caffe2tf import spent as phases
from caffe2tf.errors import clean, escaped

if TYPE_CHECKING:
    import logging

_ASIDE: list[int] = []  # copies of stderr, of each `hushed` that is on
_Item = TypeVar("_Item")
Cell = str | float
Step = Callable[[int], None]


def _drawn() -> bool:
    """Whether stdout takes drawing: a terminal, or whatever FORCE_COLOR says is one, as Rich itself sees it."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def open_streams() -> None:
    """Opens standard streams that were closed, so that no file that is opened gets their number: what is then written to stdout
    is an error, to stderr lost."""
    for number, name, flags in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if not _is_open(number):
            os.open(os.devnull, flags)  # takes the lowest number that is free
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))


@contextlib.contextmanager
def all_written() -> Iterator[None]:
    """Writes out at the end of the block what went to stdout: where that cannot take it, one line on stderr and exit code 1, without
    the line where nobody reads on."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        for number in (1, 2):  # what is still in their buffers goes nowhere
            with contextlib.suppress(OSError):
                (sys.stdout if number == 1 else sys.stderr).flush()
                continue
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
        what = "cannot write to standard output" if error.filename is None else error.filename
        if error.errno != errno.EPIPE:
            echo(f"caffe2tf: {what}: {(error.strerror or str(error)).lower()}", err=True)
        sys.exit(1)


def any_encoding() -> None:
    """Characters that stdout or stderr cannot hold, or file names that are no text, are written as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def echo(text: object = "", err: bool = False, nl: bool = True) -> None:
    """Prints lines to stdout, or stderr, control characters as escapes; without `nl` no end of the last."""
    click.echo(escaped(str(text), "\n\t"), err=err, nl=nl)


def with_flags(text: str, command: click.Command) -> str:
    """`text` with the arguments of the library that it names in backticks as `command` has them: `force` as -f/--force, `model` as MODEL.
    What the command has no option for stays as it is."""
    flags = dict(_flags(command))
    return re.sub(r"`([a-z_]+)`", lambda found: flags.get(found[1], found[0]), text)


def _flags(command: click.Command) -> Iterator[tuple[str, str]]:
    for one in command.commands.values() if isinstance(command, click.Group) else ():
        yield from _flags(one)
    # Without names for --help: click makes that option once, and a context of its own would take -h from it for good.
    for param in command.get_params(click.Context(command, help_option_names=[])):
        if param.name:
            yield param.name, "/".join(param.opts) if isinstance(param, click.Option) else param.name.upper()


def note(text: str) -> None:
    """Prints a note to stderr, with the flags of the command that runs."""
    ctx = click.get_current_context(silent=True)
    line = f"note: {clean(with_flags(text, ctx.command) if ctx else text)}"
    encoding = sys.stderr.encoding or "utf-8"
    if not _ASIDE or sys.stderr is not sys.__stderr__:
        echo(line, err=True)
        return
    with contextlib.suppress(OSError):
        os.write(_ASIDE[0], f"{escaped(line)}\n".encode(encoding, "backslashreplace"))


@contextlib.contextmanager
def notes(shown: bool) -> Iterator[None]:
    """What the library logs in the block (what it assumed, what it left out) as notes on stderr, if they are `shown`."""
    if not shown:
        yield
        return
    log, handler = _listening("caffe2tf", note)
    before = log.level
    log.addHandler(handler)
    log.setLevel("INFO")
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def _listening(name: str, take: Callable[[str], object]) -> "tuple[logging.Logger, logging.Handler]":
    """The log `name`, and a handler for it that hands the messages to `take`; what `logging` costs is none of --help's."""
    import logging

    class Taking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            take(record.getMessage())

    return logging.getLogger(name), Taking()


@contextlib.contextmanager
def left_behind() -> Iterator[None]:
    """What is logged in the block of files that runs before left, as notes at its end, since it may come while `hushed`; of a
    command with --quiet nothing."""
    kept = list[str]()

    def keep(text: str) -> None:
        ctx = click.get_current_context(silent=True)
        if ctx is None or not ctx.params.get("quiet"):
            kept.append(text)

    log, handler = _listening("caffe2tf.files", keep)
    before = log.propagate
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = before
        for text in kept:
            note(text)


def spent() -> None:
    """Prints to stderr what the phases of this run have taken so far."""
    for index, (phase, passed, worked) in enumerate(phases.rows()):
        if not index:
            echo(f"{'':10}  seconds  processor's", err=True)
        echo(f"{phase:10}  {passed:7.2f}  {worked:11.2f}", err=True)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Cell]], title: str | None = None, spare: Sequence[str] = ()
) -> None:
    """Prints rows of strings to stdout. A column that starts with '>' is aligned right.

    A float is a share: a bar on a terminal, a percentage in a pipe. The columns `spare` are left out, one after the other,
    while a terminal is too narrow for all.
    """
    cells = [[cell if isinstance(cell, float) else clean(cell) for cell in row] for row in rows]
    title = title and clean(title)
    if _drawn():
        _draw(columns, cells, title, spare)
        return
    right = [column.startswith(">") for column in columns]
    texts = [[f"{cell:.1%}" if isinstance(cell, float) else cell for cell in row] for row in cells]
    lines = [[column.lstrip(">") for column in columns], *texts]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    if title:
        print(title)
    for line in lines:
        aligned = (
            cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(line, widths, right, strict=True)
        )
        print("  ".join(aligned).rstrip())


def _draw(columns: Sequence[str], rows: Sequence[Sequence[Cell]], title: str | None, spare: Sequence[str]) -> None:
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
def progress(what: str, total: int | None, quiet: bool = False, count: bool = False) -> Iterator[Step]:
    """Gives a function that takes bytes done, or with `count` pieces; draws a bar on stderr where that is a terminal, a
    pulsing one where `total` is None, which counts pieces alone."""
    if quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn

    amount: list[ProgressColumn] = [MofNCompleteColumn() if count else DownloadColumn()]
    if total is None:
        amount = [TextColumn("{task.completed:,}")] if count else []
    columns = TextColumn("{task.description}", markup=False), BarColumn(), *amount
    # A stream of its own, which `hushed` does not silence.
    with (
        os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="replace") as stream,
        Progress(*columns, console=Console(file=stream, force_terminal=True), transient=True) as bars,
    ):
        task = bars.add_task(clean(what), total=total)
        yield lambda done: bars.advance(task, done)


@contextlib.contextmanager
def hushed(verbose: bool = False) -> Iterator[None]:
    """Keeps what C++ libraries write to stdout and stderr by themselves (TensorFlow's start-up) from the user; `note` is heard."""
    if verbose:
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(number, os.dup(number)) for number in (1, 2)]
    with open(os.devnull, "wb") as nowhere:
        try:
            for number, _ in kept:
                os.dup2(nowhere.fileno(), number)
            _ASIDE.append(kept[1][1])
            yield
        finally:
            _ASIDE.remove(kept[1][1])
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):
                    stream.flush()
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)


def hushed_each(items: Iterable[_Item], verbose: bool = False) -> Iterator[_Item]:
    """The `items`, each made under `hushed`: what uses them may print."""
    rest, end = iter(items), object()
    while True:
        with hushed(verbose):
            item: Any = next(rest, end)
        if item is end:
            return
        yield item


def bars(title: str, values: Iterable[tuple[str, float]]) -> None:
    """Prints (name, share) pairs below `title`, on a terminal with bars."""
    title, values = clean(title), [(clean(name), share) for name, share in values]
    print(title)
    if not _drawn():
        for name, share in values:
            print(f"  {share:8.4%}  {name}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False)
    mark = "━" if console.encoding.startswith("utf") else "-"
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", no_wrap=True, min_width=11)
    grid.add_column(width=24)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for name, share in values:
        grid.add_row(f"  {share:.4%}", Text(mark * round(24 * share), "cyan"), name)
    console.print(grid)
