"""The command line where the streams, the locale and the home are not what is usual."""

import os
import signal
import subprocess
import sys

import pytest

from tests.helpers import GOLDEN, ROOT

NET = GOLDEN / "layers" / "conv_basic"
UNICODE = (
    'layer { name: "Größe 卷积" type: "Input" top: "d" input_param { shape { dim: 1 dim: 3 } } }\n'
    'layer { name: "x" type: "ReLU" bottom: "d" top: "e" }\n'
)


def shell(line, folder=None, **environment):
    """(exit code, stdout, stderr) of a shell's line, in which `caffe2tf` is ours and $NET a golden case; None takes a variable
    away."""
    line = f'caffe2tf() {{ "{sys.executable}" -m caffe2tf "$@"; }}; {line}'
    known = {**os.environ, "PYTHONPATH": str(ROOT), "NET": str(NET), "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    known = {name: value for name, value in known.items() if value is not None}
    done = subprocess.run(["bash", "-c", line], cwd=folder or ROOT, env=known, capture_output=True, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize(
    ("line", "code", "why"),
    [
        (
            "caffe2tf inspect $NET/net.prototxt > /dev/full",
            1,
            "cannot write to standard output: no space left on device",
        ),
        ("caffe2tf inspect $NET/net.prototxt --json > /dev/full", 1, "no space left on device"),
        ("caffe2tf --help > /dev/full", 1, "no space left on device"),
        ("caffe2tf inspect $NET/net.prototxt >&-", 1, "cannot write to standard output: bad file descriptor"),
        ("caffe2tf inspect nothing >&- <&-", 1, "nothing: no such file or directory"),
        ("caffe2tf inspect nothing 2>/dev/full", 1, None),
        ("caffe2tf inspect nothing 2>&- >&- <&-", 1, None),
        ("caffe2tf inspect $NET/net.prototxt 2>&- >/dev/null", 0, None),
        ("caffe2tf inspect $NET/net.prototxt --json | true; exit ${PIPESTATUS[0]}", None, None),
    ],
)
def test_streams_that_take_nothing(line, code, why):
    """One line where stderr takes it; silence where nobody reads on."""
    ended, _, said = shell(line)
    assert ended == code or code is None
    assert said.count("\n") == (why is not None), said
    if why:
        assert said.startswith("caffe2tf: ")
        assert why in said


def test_a_closed_stdout_is_never_the_result(tmp_path):
    """The first file that is opened would take its number, and what is printed go into it."""
    line = "caffe2tf convert $NET/net.caffemodel -p $NET/net.prototxt -o"
    assert shell(f"{line} {tmp_path}/a.npz -q >&-") == (0, "", "")
    assert shell(f"{line} {tmp_path}/b.npz >&- 2>&- <&-")[0] == 1
    assert shell(f"{line} {tmp_path}/c.npz -q") == (0, "", "")
    assert len({(tmp_path / f"{name}.npz").stat().st_size for name in "abc"}) == 1


BARE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize("encoding", [None, "ascii"])
def test_a_locale_without_letters(encoding, tmp_path):
    (tmp_path / "Größe.prototxt").write_text(UNICODE, encoding="utf-8")
    for line in (
        "caffe2tf inspect Gr*.prototxt",
        "caffe2tf inspect Gr*.prototxt --html Größe.html",
        "FORCE_COLOR=1 caffe2tf inspect Gr*.prototxt",
        "caffe2tf finetune --help",
    ):
        code, _, said = shell(line, tmp_path, PYTHONIOENCODING=encoding, **BARE)
        assert (code, said) == (0, ""), line
    assert "Größe 卷积" in (tmp_path / "Größe.html").read_text(encoding="utf-8")
    code, _, said = shell("caffe2tf inspect Größe.caffemodel", tmp_path, PYTHONIOENCODING=encoding, **BARE)
    assert code == 1
    assert said.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("home", [None, "/nonexistent", "/dev/null"])
def test_without_a_home(home, tmp_path):
    shown = "caffe2tf visualize graph $NET/net.prototxt -q"
    for line in ("caffe2tf inspect $NET/net.prototxt", f"{shown} -o {tmp_path}/x.png"):
        code, _, said = shell(line, HOME=home, XDG_CACHE_HOME=None, XDG_CONFIG_HOME=None, MPLCONFIGDIR=None)
        assert code == 0, said
        assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_waits(number):
    """For standard input."""
    command = [
        sys.executable,
        "-m",
        "caffe2tf",
        "classify",
        str(NET / "net.caffemodel"),
        "-p",
        str(NET / "net.prototxt"),
        "-",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(4)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 128 + number
    assert said == "caffe2tf: stopped; nothing half-written is left\n"
