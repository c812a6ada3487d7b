"""Every command of the README runs, and the README's picture of the first is what it prints."""

import re
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from caffe2tf.cli.main import main
from tests.helpers import README, ROOT, assert_prints, blocks, skeleton

COMMANDS = blocks("sh")


def run(line):
    result = CliRunner().invoke(main, line.split()[1:])
    assert result.exit_code == 0, result.output
    return result


def test_the_two_commands_are_in_the_first_screen():
    first = README[: README.index("## Recipes")]
    assert re.search(r"^pip install \. && caffe2tf ", first, re.MULTILINE)
    assert re.search(r"^pip install '\.\[test\]' && pytest$", first, re.MULTILINE)


def test_the_first_command_prints_what_the_readme_shows():
    line = re.search(r"^pip install \. && (.*)$", README, re.MULTILINE)[1]
    shown = re.search(r"```text\n(.*?)```", README, re.DOTALL)[1]
    printed = run(line).stdout
    assert skeleton(printed) == skeleton(shown)
    assert "PASS  14 of 14 blobs within 1e-05" in shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the recipes run, one after the other, as somebody would type them."""
    path = tmp_path_factory.mktemp("recipes")
    yield path
    shutil.rmtree(path)  # gigabytes


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(COMMANDS)), ids=[line for line, _ in COMMANDS])
def test_recipes_run(index, folder, monkeypatch):
    monkeypatch.chdir(folder)
    line, shown = COMMANDS[index]
    printed = run(line).stdout
    if shown:
        assert_prints(shown, printed)


@pytest.mark.slow
def test_python_examples_run(alexnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bvlc_alexnet.caffemodel").symlink_to(alexnet)
    run("caffe2tf convert bvlc_alexnet.caffemodel -o alexnet.keras -q")
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 3
    for code in examples:
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert (tmp_path / "alexnet.npz").exists()
