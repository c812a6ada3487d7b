"""What every run waits for: CPU seconds of whole processes beside Python's own and TensorFlow's import.

Run as `python -m tests.bench.startup [REPEATS]`; `caffe2tf -v` says of any run of its own where the time goes.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

from tests.bench import tables

PYTHON = sys.executable


def environment(folder: str) -> dict[str, str]:
    """This process's, with a folder for byte code: pip makes it when it installs, a checkout may not be allowed to, and would
    compile some 80 modules once more for each process (0.2 s)."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": os.path.join(folder, "bytecode")}


def worked(command: Sequence[str], env: Mapping[str, str]) -> float:
    """The processor's seconds of a process."""
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command}: exit status {status}")
    return usage.ru_utime + usage.ru_stime


def measured(repeats: int = 9) -> list[tuple[str, str, str]]:
    """(what, milliseconds, ratio): the least of so many runs, the commands in turn; those that load TensorFlow a third as often."""
    with tempfile.TemporaryDirectory() as folder:
        env, ours = environment(folder), [PYTHON, "-m", "caffe2tf"]
        model = os.path.join(folder, "squeezenet.caffemodel")
        for sample in (["squeezenet", model], ["photographs", os.path.join(folder, "photographs")]):
            subprocess.run([*ours, "sample", "-q", *sample], env=env, check=True)
        light = {
            "python -c pass": [PYTHON, "-c", "pass"],
            "import click": [PYTHON, "-c", "import click"],
            "caffe2tf --help": [*ours, "--help"],
            "caffe2tf inspect": [*ours, "inspect", model],
        }
        picture = os.path.join(folder, "photographs", "china.jpg")
        heavy = {
            "import tensorflow": [PYTHON, "-c", "import tensorflow"],
            "import keras": [PYTHON, "-c", "import keras"],
            "classify, one picture": [*ours, "classify", model, picture],
            "verify": [*ours, "verify", model],
        }
        least = dict.fromkeys([*light, *heavy], float("inf"))
        for turn in range(repeats + 1):
            for name, command in {**light, **({} if turn % 3 else heavy)}.items():
                seconds = worked(command, env)
                if turn or name in heavy:  # the first makes the byte code
                    least[name] = min(least[name], seconds)
    rows = []
    for name, seconds in least.items():
        whole = "import tensorflow" if name in heavy else "python -c pass"
        rows.append((name, f"{1000 * seconds:.0f} ms", f"{seconds / least[whole]:.2f} of `{whole}`"))
    return rows


if __name__ == "__main__":
    print(tables.markdown(("start-up", "processor's time", "ratio"), measured(*map(int, sys.argv[1:]))))
