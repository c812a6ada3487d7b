"""The page's table of speed, in one command: converting, the forward pass beside the processor's limits, building and reopening,
start-up; with the versions, the cores and the date.

Run as `python -m tests.bench [--write] [--repeats N]` on a machine that does nothing else; `--write` puts the table into docs/speed.md,
between its two marks. The parts are commands of their own: `python -m tests.bench.convert`, `.forward`, `.build`, `.startup`; each
runs in a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench import tables

PAGE = Path(__file__).parents[2] / "docs" / "speed.md"
BEGIN, END = "<!-- python -m tests.bench --write -->\n", "<!-- end of the bench -->\n"
_PARTS = {
    "convert": "from tests.bench import convert; found = convert.ratios(convert.measured({repeats}))",
    "forward": "from tests.bench import forward; found = (forward.COLUMNS, *forward.measured({repeats}))",
    "build": ("from tests.bench import build; found = build.measured(repeats={repeats})"),
    "startup": "from tests.bench import startup; found = startup.measured({repeats})",
}


def part(name: str, repeats: int) -> Any:
    """What one part measured."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "found.json")
        code = (
            f"{_PARTS[name].format(repeats=repeats, folder=folder)}; import json; json.dump(found, open({out!r}, 'w'))"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=PAGE.parents[1])
        with open(out, encoding="utf-8") as file:
            return json.load(file)


def section(repeats: int) -> str:
    """The table as Markdown."""
    packages = tables.versions("tensorflow", "keras", "numpy", "click")
    columns, words, forward = part("forward", repeats)
    return "\n\n".join(
        [
            f"Python {sys.version.split()[0]}, {packages}; {tables.processor()}; {words}; {tables.today()}.",
            tables.markdown(("convert, whole processes", "time", "peak memory", "ratio"), part("convert", repeats)),
            tables.markdown(columns, forward),
            tables.markdown(
                ("Keras models", "caffe2tf", "keras.applications", "ratio"), part("build", min(repeats, 5))
            ),
            tables.markdown(("start-up", "processor's time", "ratio"), part("startup", repeats)),
        ]
    )


def written(text: str, found: str) -> str:
    """The page `text` with `found` between its marks. Raises ValueError where it lacks one."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/speed.md lacks {BEGIN.strip()} or {END.strip()}")
    return f"{before}{BEGIN}\n{found}\n\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put it into docs/speed.md")
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    found = section(given.repeats)
    print(found)
    if given.write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
