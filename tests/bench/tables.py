"""What the programs here print: tables that are Markdown and read well as text too, and on what they were measured."""

import datetime
import importlib.util
import os
import platform
from collections.abc import Iterable, Sequence
from importlib import metadata


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown whose columns are aligned; those after the first to the right."""
    lines = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(3, *(len(line[index]) for line in lines)) for index in range(len(columns))]

    def said(line: Sequence[str]) -> str:
        cells = [cell.rjust(w) if at else cell.ljust(w) for at, (cell, w) in enumerate(zip(line, widths, strict=True))]
        return f"| {' | '.join(cells)} |"

    rule = [("-" * (w - 1) + ":") if at else "-" * w for at, w in enumerate(widths)]
    return "\n".join([said(lines[0]), said(rule), *map(said, lines[1:])])


def versions(*packages: str) -> str:
    """`tensorflow 2.21.0, ...` of those that are installed."""
    return ", ".join(f"{name} {metadata.version(name)}" for name in packages if importlib.util.find_spec(name))


def processor() -> str:
    """The processor's name, where the system says it, and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{cores()} cores of {name}"


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def today() -> str:
    return datetime.date.today().isoformat()
