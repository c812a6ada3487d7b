"""The README's picture of a terminal, from real runs: `python -m tests.picture FOLDER` writes tests/terminal.svg.

FOLDER holds what `caffe2tf sample`, `caffe2tf sample squeezenet` and `caffe2tf sample photographs` write.
"""

import io
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).parent / "terminal.svg"
COMMANDS = [
    "caffe2tf inspect bvlc_alexnet.caffemodel",
    "caffe2tf classify squeezenet_v1.0.caffemodel -q photographs/grace_hopper.jpg",
]
WIDTH = 112


def printed(folder):
    """What COMMANDS print to a terminal in `folder`, with its colours."""
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "PYTHONPATH": str(TARGET.parent.parent)}
    environment.pop("NO_COLOR", None)
    texts = []
    for line in COMMANDS:
        command = [sys.executable, "-m", *line.split()]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
        texts.append(f"$ {line}\n{done.stdout.decode()}")
    return "\n".join(texts)


def draw(text):
    """`text` as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text.from_ansi(text))
    return console.export_svg(title="caffe2tf", unique_id="caffe2tf")


if __name__ == "__main__":
    TARGET.write_text(draw(printed(sys.argv[1])), encoding="utf-8")
