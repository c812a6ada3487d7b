"""What a shell and a terminal meet: completion, pipes, colours, encodings, paths of other systems."""

import ast
import json
import ntpath
import os
import shlex
import shutil
import subprocess
import sys
import zipfile

import pytest

from caffe2tf import formats
from caffe2tf.cli import options, terminal
from caffe2tf.cli.main import main
from tests.helpers import GOLDEN, MODULES, ROOT, run

V1 = str(GOLDEN / "formats" / "v1" / "net.caffemodel")
COMMAND = [sys.executable, "-c", "from caffe2tf.cli.main import main; main(prog_name='caffe2tf')"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}  # a buffer is what breaks late


def start(*args, **variables):
    """Runs `python -m caffe2tf` as a process of its own."""
    command = [sys.executable, "-m", "caffe2tf", *map(str, args)]
    return subprocess.run(command, capture_output=True, env={**ENVIRONMENT, **variables}, cwd=ROOT)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("net.caffemodel", "deploy.prototxt", "net.keras", "notes.md", "names.txt"):
        (tmp_path / name).touch()
    (tmp_path / "nets").mkdir()
    return tmp_path


def completions(*words):
    """(type, value) of what bash is offered for the last of `words`."""
    asked = {"COMP_WORDS": shlex.join(["caffe2tf", *words]), "COMP_CWORD": str(len(words))}
    environment = {**ENVIRONMENT, **asked, "_CAFFE2TF_COMPLETE": "bash_complete"}
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=True)
    return [tuple(line.split(",")) for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script(shell):
    script = run("completion", shell).stdout
    assert f"_CAFFE2TF_COMPLETE={shell}_complete" in script
    assert f"caffe2tf completion {shell}" in run("completion", "--help").stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n", "-c" if shell == "fish" else "/dev/stdin"], input=script, text=True, check=True)


def test_bash_completes(here):
    (here / "caffe2tf").write_text(f"#!/bin/sh\nexec {shlex.join(COMMAND)}\n")
    (here / "caffe2tf").chmod(0o755)
    if not shutil.which("bash"):
        pytest.skip("no bash")
    code = (
        'PATH=$PWD:$PATH; eval "$(cat script)"; COMP_WORDS=(caffe2tf cl); COMP_CWORD=1; '
        '_caffe2tf_completion caffe2tf; echo "${COMPREPLY[@]}"'
    )
    (here / "script").write_text(run("completion", "bash").stdout)
    done = subprocess.run(["bash", "-c", code], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout == "classify\n", done.stderr


def test_completion_knows_commands_options_and_suffixes(here):
    assert ("plain", "convert") in completions("con")
    assert completions("convert", "x", "--qua") == [("plain", "--quantize")]
    assert completions("convert", "n") == [("dir", "n"), ("plain", "net.caffemodel"), ("plain", "net.keras")]
    assert completions("classify", "net.") == [("dir", "net."), ("plain", "net.caffemodel"), ("plain", "net.keras")]
    assert completions("convert", "net.caffemodel", "-p", "d") == [("dir", "d"), ("plain", "deploy.prototxt")]
    assert completions("convert", "nets/x") == [("file", "nets/x")]
    (here / "net 2.caffemodel").touch()  # the shell's own completion knows how to quote
    assert completions("convert", "net") == [("file", "net")]


def test_completion_knows_values(here):
    shutil.copy(V1, here / "net.caffemodel")
    assert completions("convert", "net.caffemodel", "--to", "ke") == [("plain", "keras")]
    assert completions("download", "bvlc_g") == [("plain", "bvlc_googlenet")]
    assert completions("finetune", "--schedule", "co") == [("plain", "constant"), ("plain", "cosine")]
    assert completions("finetune", "--augment", "mirror,cr") == [("plain", "mirror", "crop")]
    assert completions("finetune", "net.caffemodel", "--layers", "fc3,c") == [
        ("plain", "fc3", "conv1"),
        ("plain", "fc3", "conv2"),
    ]
    assert ("plain", "conv2") in completions("visualize", "filters", "net.caffemodel", "co")
    assert ("plain", "fc3") in completions("convert", "net.caffemodel", "--outputs", "f")
    note = {"prototxt": (GOLDEN / "layers" / "fire_module" / "net.prototxt").read_text()}
    for archive in (here / "net.keras", here / "folder" / "best.keras"):
        archive.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("caffe2tf.json", json.dumps(note))
        place = archive.parent if archive.parent != here else archive
        assert ("plain", "e1") in completions("visualize", "filters", str(place), "e")
    (here / "net.caffemodel").write_bytes(b"broken")
    assert completions("finetune", "net.caffemodel", "--layers", "c") == []


def test_fish_gets_whole_descriptions():
    asked = {"COMP_WORDS": "caffe2tf con", "COMP_CWORD": "con", "_CAFFE2TF_COMPLETE": "fish_complete"}
    done = subprocess.run(COMMAND, env={**ENVIRONMENT, **asked}, capture_output=True, text=True, check=True)
    assert done.stdout == f"plain,convert\t{main.commands['convert'].short_help}\n"


def test_usage_lines_say_what_was_typed():
    assert start("convert").stderr.startswith(b"Usage: python -m caffe2tf convert ")
    done = subprocess.run([*COMMAND, "convert"], env=ENVIRONMENT, capture_output=True)
    assert done.stderr.startswith(b"Usage: caffe2tf convert ")


def test_help_names_every_option_and_lists_commands_in_the_order_of_use():
    names = [line.split()[0] for line in run("--help").stdout.split("Commands:\n")[1].splitlines()]
    assert names == list(main.commands)
    assert names.index("convert") < names.index("verify") < names.index("completion")
    for name, command in main.commands.items():
        text = run(name, "--help").stdout
        for option in command.params:
            assert not option.name or max(option.opts, key=len) in text or option.param_type_name == "argument", name


@pytest.mark.parametrize("args", [["inspect", V1], ["inspect", V1, "--json"], ["convert", "--help"], ["--version"]])
def test_a_reader_that_leaves_ends_the_command_silently(args):
    command = shlex.join([sys.executable, "-m", "caffe2tf", *args])
    done = subprocess.run(["/bin/sh", "-c", f"{command} | true"], capture_output=True, env=ENVIRONMENT)
    assert done.stderr == b""


def test_a_reader_that_leaves_ends_classify_silently(tmp_path):
    pytest.importorskip("keras")
    from PIL import Image

    for index in range(40):
        Image.new("RGB", (20, 20), (index, 0, 0)).save(tmp_path / f"{index}.png")
    net = GOLDEN / "formats" / "v2" / "net.caffemodel"
    command = shlex.join([sys.executable, "-m", "caffe2tf", "classify", str(net), str(tmp_path), "-q"])
    done = subprocess.run(["/bin/sh", "-c", f"{command} | head -1"], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stderr == ""
    assert done.stdout == f"{tmp_path}/0.png\n"


def test_colours_are_for_terminals_and_can_be_left_out(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    for variables, colour in (({}, False), ({"FORCE_COLOR": "1"}, True), ({"NO_COLOR": "1"}, False)):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        terminal.bars("x", [("a", 0.75)])
        assert ("\x1b[36m" in capsys.readouterr().out) == colour


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_bars_and_names_in_every_encoding(encoding):
    code = "from caffe2tf.cli import terminal; terminal.any_encoding(); terminal.bars('a\\u0142b\\udce9', [('caf\\xe9 \\u4e2d', 0.5)])"
    for forced in ({}, {"FORCE_COLOR": "1", "NO_COLOR": "1"}):
        environment = {**ENVIRONMENT, **forced, "PYTHONIOENCODING": encoding}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr
        text = done.stdout.decode(encoding)
        assert "50.0000%" in text
        assert ("\\u4e2d" in text) == (encoding != "utf-8")
        assert ("-----" in text) == (bool(forced) and encoding != "utf-8")


def test_file_names_in_every_encoding(tmp_path):
    name = shutil.copy(V1, tmp_path / "\u0142\xf3d\u017a.caffemodel")
    done = start("inspect", name, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"\\u0142\\xf3d\\u017a.caffemodel: formats, V1" in done.stdout


def test_bars_are_drawn_in_proportion(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.bars("x", [("a", 0.75), ("b", 0.25)])
    lines = capsys.readouterr().out.splitlines()
    assert [sum(c in "━-" for c in line) for line in lines[1:]] == [18, 6]


def test_every_text_file_has_its_encoding_and_line_ends():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", None) != "open":
                continue
            mode = node.args[1].value if len(node.args) > 1 else "r"
            given = {keyword.arg for keyword in node.keywords}
            where = f"{path.name}:{node.lineno}"
            assert "b" in mode or "encoding" in given, where
            assert "b" in mode or mode == "r" or "newline" in given, where


def test_paths_of_windows(monkeypatch):
    monkeypatch.setattr(os, "path", ntpath)
    monkeypatch.setattr(os, "sep", "\\")
    assert options.name("C:\\nets\\saved\\") == "saved"
    assert options.name("C:/nets/net.caffemodel") == "net.caffemodel"
    assert formats.of("D:\\out\\saved\\") == "savedmodel"
    assert formats.of("D:\\out.v2\\net.NPZ") == "npz"


def test_names_of_inputs_may_hold_equals_signs():
    assert options.shapes(None, None, ["a=b=1,3,8,8", "c:/x=2,3"]) == {"a=b": (1, 3, 8, 8), "c:/x": (2, 3)}
