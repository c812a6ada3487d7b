"""Every command of the README runs, and the README's picture of the first is what it prints."""

import re
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from caffe2tf.cli.main import main
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def blocks(kind):
    """[(command, what the README says it prints or None)] of the fenced blocks of a kind: `sh` runs anywhere, `bash` on
    trained models and people's pictures. What the last command of a block prints is the `text` block right after it."""
    found = []
    for block, shown in re.findall(rf"```{kind}\n(.*?)```\n(?:\n```text\n(.*?)```)?", README, re.DOTALL):
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        commands = [line for line in lines if line.startswith("caffe2tf ")]
        found += [(line, None) for line in commands[:-1]] + [(line, shown or None) for line in commands[-1:]]
    return found


COMMANDS = blocks("sh")


def run(line):
    result = CliRunner().invoke(main, line.split()[1:])
    assert result.exit_code == 0, result.output
    return result


def test_the_two_commands_are_in_the_first_screen():
    first = README[: README.index("## Recipes")]
    assert re.search(r"^pip install \. && caffe2tf ", first, re.MULTILINE)
    assert re.search(r"^pip install '\.\[test\]' && pytest$", first, re.MULTILINE)


def skeleton(text):
    """`text` without its figures: times, errors and places differ from machine to machine."""
    return [re.sub(r"[0-9.e+x-]*[0-9][0-9.e+x-]*", "#", re.sub(r" +", " ", line)).strip() for line in text.splitlines()]


def test_the_first_command_prints_what_the_readme_shows():
    line = re.search(r"^pip install \. && (.*)$", README, re.MULTILINE)[1]
    shown = re.search(r"```text\n(.*?)```", README, re.DOTALL)[1]
    printed = run(line).stdout
    assert skeleton(printed) == skeleton(shown)
    assert "PASS  14 of 14 blobs within 1e-05" in shown


def matches(shown, printed, figures=True):
    """Whether `printed` has the lines of `shown`, in which `...` stands for any lines; figures within two in a hundred."""
    pattern = "".join(r"(?:.*\n)*" if line.strip() == "..." else re.escape(line) + r"\n" for line in skeleton(shown))
    text = "".join(line + "\n" for line in skeleton(printed))
    assert re.fullmatch(pattern, text), f"README shows\n{shown}\nbut it prints\n{printed}"
    if figures and "..." not in shown:
        number = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]\d+)?")
        wanted, found = ([float(n) for n in number.findall(t)] for t in (shown, printed))
        assert found == pytest.approx(wanted, rel=0.02, abs=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the recipes run, one after the other, as somebody would type them."""
    path = tmp_path_factory.mktemp("recipes")
    yield path
    shutil.rmtree(path)  # gigabytes


@pytest.mark.parametrize("index", range(len(COMMANDS)), ids=[line for line, _ in COMMANDS])
def test_recipes_run(index, folder, monkeypatch):
    monkeypatch.chdir(folder)
    line, shown = COMMANDS[index]
    printed = run(line).stdout
    if shown:
        matches(shown, printed)


def test_python_examples_run(alexnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bvlc_alexnet.caffemodel").symlink_to(alexnet)
    run("caffe2tf convert bvlc_alexnet.caffemodel -o alexnet.keras -q")
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 2
    for code in examples:
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert (tmp_path / "alexnet.npz").exists()
