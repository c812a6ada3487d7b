"""Writes what the pages show anew: `python -m tests.outputs [PAGE ...]` runs the commands of the README and of docs/*.md, each
page in a folder of its own, puts what they print in place of what the pages show, and draws tests/terminal.svg.

A `...` stays, and so does a range (`0.93..0.96`) where the new figure lies within; else the range is named, to be widened by
hand. `tests/test_readme.py` compares the same.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import picture
from tests.helpers import BLOCK, RANGE, ROOT, agrees, aligned, commands, figures, pages, refigured


def printed(line: str, folder: str) -> str:
    """What a command prints to stdout in `folder`. Raises RuntimeError with its last lines where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "NO_COLOR": "1"}
    command = [sys.executable, "-m", *shlex.split(line)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{line}: exit code {done.returncode}\n{done.stderr[-500:]}")
    return done.stdout


def renewed(shown: str, found: str) -> tuple[str, list[str]]:
    """(`shown` with the lines and figures of `found`, [what is to be changed by hand])."""
    lines = aligned(shown, found)
    if lines is None:
        return _anew(shown, found)
    made, wrong = [], []
    for line, new in lines:
        kept = line
        if new is not None:
            kept, outside = _with_ranges(line, new)
            wrong += outside
        made.append(kept)
    return "\n".join(made) + "\n", wrong


def _with_ranges(line: str, new: str) -> tuple[str, list[str]]:
    """(`new` with the ranges of `line` in the places of their figures, those that the figures lie outside of)."""
    kept, wrong = [], []
    for (old, _), (figure, _) in zip(figures(line), figures(new), strict=True):
        kept.append(old if ".." in old else figure)
        wrong += [] if ".." not in old or agrees(old, figure) else [f"{line.strip()}: {figure} lies outside {old}"]
    return refigured(new, kept), wrong


def _anew(shown: str, found: str) -> tuple[str, list[str]]:
    """`renewed` where other lines are printed than are shown: as many from the start and from the end as there were."""
    lines, (head, *rest) = found.splitlines(), re.split(r"^\.\.\.\n", shown, flags=re.MULTILINE)
    if RANGE.search(shown) or len(rest) > 1:
        return shown, [f"other lines are printed than the page shows:\n{found}"]
    if not rest:
        return found, []
    first, last = len(head.splitlines()), len(rest[0].splitlines())
    return "\n".join([*lines[:first], "...", *lines[len(lines) - last :]]) + "\n", []


def renew(text: str, folder: str) -> tuple[str, list[str]]:
    """A page with all that its commands print now, and what is to be changed by hand."""
    made, end, wrong = [], 0, []
    for block in BLOCK.finditer(text):
        out = [printed(line, folder) for line in commands(block[1])]
        if block[2] is None or not out:
            continue
        new, outside = renewed(block[2], out[-1])
        wrong += outside
        made += [text[end : block.start(2)], new]
        end = block.end(2)
    return "".join([*made, text[end:]]), wrong


def main(names: list[str]) -> int:
    wrong = []
    for name, text in pages().items():
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            made, outside = renew(text, folder)
        wrong += [f"{name}: {line}" for line in outside]
        print(f"{name}: {'as it was' if made == text else 'written anew'}")
        Path(ROOT / name).write_text(made, encoding="utf-8")
    if not names:
        with tempfile.TemporaryDirectory() as folder:
            for sample in ("alexnet", "squeezenet", "photographs"):
                printed(f"caffe2tf sample {sample}", folder)
            picture.TARGET.write_text(picture.draw(picture.printed(folder)), encoding="utf-8")
    print("\n".join(wrong), end="\n" if wrong else "")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
