"""What `--help` of every command says, in parts that a page can be made of: web pages (`generate.py`), man pages (`man.py`)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import click

from caffe2tf.cli.main import main


@dataclass
class Section:
    """A heading of a help text ("" before the first), its paragraphs, and its list [(term, meaning)]. A paragraph that `kept`
    has keeps its lines."""

    heading: str = ""
    paragraphs: list[tuple[str, bool]] = field(default_factory=list)
    terms: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Help:
    """One command: `name` with all words, its usage, its one line, and its sections."""

    name: str
    usage: str
    short: str
    sections: list[Section]


class _Recorder(click.HelpFormatter):
    """Keeps what click would write, whichever sections a command makes."""

    def __init__(self) -> None:
        super().__init__(width=10_000, max_width=10_000)
        self.usage = ""
        self.sections = [Section()]

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        self.usage = f"{prog} {args}".strip()

    def write_heading(self, heading: str) -> None:
        self.sections.append(Section(heading.rstrip(":")))

    def write_text(self, text: str) -> None:
        for part in re.split(r"\n[ \t]*\n", text.strip("\n")):
            kept = part.startswith("\b")
            lines = part.removeprefix("\b").strip("\n").splitlines()
            self.sections[-1].paragraphs.append(("\n".join(lines) if kept else " ".join(map(str.strip, lines)), kept))

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        self.sections[-1].terms.extend(rows)


def _read(context: click.Context) -> Help:
    recorder = _Recorder()
    context.command.format_help(context, recorder)
    sections = [section for section in recorder.sections if section.paragraphs or section.terms]
    return Help(context.command_path, recorder.usage, context.command.get_short_help_str(1000), sections)


def commands(context: click.Context | None = None) -> Iterator[Help]:
    """The Help of `caffe2tf`, of its commands in their order, and of theirs."""
    context = context or click.Context(main, info_name="caffe2tf", **main.context_settings)
    yield _read(context)
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            yield from commands(click.Context(command, info_name=name, parent=context))
