"""Man pages out of the commands' help: `python docs/man.py FOLDER` writes caffe2tf.1, caffe2tf-convert.1 and the others.

`setup.py` calls `write` at every build, so that the wheel's share/man/man1 says what `--help` says.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]

import helps  # noqa: E402

import caffe2tf  # noqa: E402


def escaped(text: str) -> str:
    """`text` as roff prints it letter by letter; what stands in backticks is bold."""
    text = (
        text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("^", r"\(ha").replace("~", r"\(ti")
    )
    text = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text)
    return "\n".join(rf"\&{line}" if line.startswith(".") else line for line in text.splitlines())


def page(command: helps.Help, others: Iterable[str]) -> str:
    """The page of one command; `others`: the names of those that it leads to."""
    name = command.name.replace(" ", "-")
    words, rest = command.usage.removeprefix(command.name).strip(), escaped(command.name)
    lines = [f'.TH "{name.upper()}" "1" "" "caffe2tf {caffe2tf.__version__}" "caffe2tf"']
    lines += [".SH NAME", rf"{escaped(name)} \- {escaped(command.short.rstrip('.'))}"]
    lines += [".SH SYNOPSIS", rf"\fB{rest}\fR {escaped(words)}", ".SH DESCRIPTION"]
    for section in command.sections:
        lines += [f'.SH "{section.heading.upper()}"'] if section.heading else []
        for text, kept in section.paragraphs:
            lines += [".PP", ".nf", escaped(text), ".fi"] if kept else [".PP", escaped(text)]
        for term, meaning in section.terms:
            lines += [".TP", rf"\fB{escaped(term)}\fR", escaped(meaning)]
    lines += [
        '.SH "EXIT STATUS"',
        "0: done. 1: the answer is no, or the input is bad. 2: wrong usage. 130 and 143: stopped.",
    ]
    lines += ['.SH "SEE ALSO"', ", ".join(rf"\fB{escaped(other.replace(' ', '-'))}\fR(1)" for other in others)]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """{file: page} of every command."""
    commands = list(helps.commands())
    found = {}
    for command in commands:
        others = [other.name for other in commands if other is not command]
        near = [
            other
            for other in others
            if other.rpartition(" ")[0] == command.name or other == command.name.rpartition(" ")[0]
        ]
        found[f"{command.name.replace(' ', '-')}.1"] = page(command, near)
    return found


def write(folder: str | Path) -> list[str]:
    """Writes all pages into `folder`; returns their paths."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (place / name).write_text(text, encoding="utf-8")
    return [(place / name).as_posix() for name in pages()]


if __name__ == "__main__":
    print("\n".join(write(sys.argv[1])))
