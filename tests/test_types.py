"""The types that a user's editor and mypy see of the installed package."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")

# What a user writes: from files to a proof, and what comes back of each call, said so that a wrong type is an error.
PROGRAM = """
    from pathlib import Path

    import numpy as np

    import caffe2tf
    from caffe2tf.classification import classifier, labels, score
    from caffe2tf.verification.compare import Report


    def proved(text: Path, weights: Path) -> bool:
        net = caffe2tf.load(str(text), str(weights))
        caffe2tf.save(net, "net.npz")
        model = caffe2tf.to_keras(net)
        again = caffe2tf.from_keras(model, net)
        blobs = caffe2tf.forward(again, {"data": np.zeros((1, 3, 8, 8), np.float32)})
        print(sorted(blobs))
        report: Report = caffe2tf.verify(again, golden=text.parent, device="cpu")
        worst: float = max(check.chained.l2 for check in report.layers)
        return report.passed and worst < report.tolerance


    def seen(model: Path, folder: str) -> dict[str, int | float | None]:
        paths, written = labels.find([folder], from_names=True)
        judge = classifier.load(model)
        known = labels.numbers(written, judge.names) if written else None
        found = score.Score(judge.names)
        for one in judge(paths, 5, known):
            found.add(one)
        return found.accuracy


    try:
        print(proved(Path("deploy.prototxt"), Path("net.caffemodel")), seen(Path("net.keras"), "pictures"))
    except caffe2tf.Caffe2TFError as error:
        print(error)
"""

# One thing wrong a line, and what mypy must say of it.
WRONG = {
    "caffe2tf.laod('net.caffemodel')": "attr-defined",
    "caffe2tf.load(3.5)": "arg-type",
    "caffe2tf.verify(3)": "arg-type",
    "caffe2tf.verify(net, golden=3)": "arg-type",
    "caffe2tf.verify(net).passes": "attr-defined",
    "labels.find(['x'], labels=2)": "arg-type",
    "score.Score(['a', 'b']).accuracy.top1": "attr-defined",
}


@pytest.fixture(scope="module")
def installed():
    """The folder that holds the package as it is installed, which need not be the checkout."""
    code = "import caffe2tf, os; print(os.path.dirname(os.path.dirname(caffe2tf.__file__)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=os.sep, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def environment(**more):
    return {key: value for key, value in os.environ.items() if key not in ("MYPYPATH", "PYTHONPATH")} | more


def checked(folder, home, text):
    """What `mypy --strict` says of the program `text`, in lines; of a package in site-packages it needs its py.typed."""
    program = folder / "program.py"
    program.write_text(textwrap.dedent(text))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(folder / "cache"), program.name]
    # The hook of an editable installation is nothing that mypy sees.
    seen = {} if home.name == "site-packages" else {"MYPYPATH": str(home)}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment(**seen))
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("program.py:") and ": error: " in line]


def test_the_package_says_that_it_has_types(installed):
    assert (installed / "caffe2tf" / "py.typed").is_file()


def test_a_program_of_a_user_passes(tmp_path, installed):
    assert checked(tmp_path, installed, PROGRAM) == []


def test_a_wrong_use_is_named(tmp_path, installed):
    head = [
        "import caffe2tf",
        "from caffe2tf.classification import labels, score",
        "net: caffe2tf.Net",
    ]
    said = checked(tmp_path, installed, "\n".join([*head, *WRONG]) + "\n")
    for number, (line, kind) in enumerate(WRONG.items(), len(head) + 1):
        assert any(one.startswith(f"program.py:{number}:") and one.endswith(f"[{kind}]") for one in said), line
    assert len(said) == len(WRONG)
