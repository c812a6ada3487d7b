"""Every command of the README runs on what `sample` writes, and prints what the README shows."""

import re
import shlex
import shutil
import subprocess
import sys
from html import unescape

import pytest
from click.testing import CliRunner
from rich.text import Text

import caffe2tf
from caffe2tf.cli.main import main
from tests import picture
from tests.helpers import README, ROOT, assert_prints, blocks

COMMANDS = blocks()


def run(line):
    result = CliRunner().invoke(main, shlex.split(line)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_the_two_commands_are_in_the_first_screen():
    first = README[: README.index("## Recipes")]
    assert re.search(r"^pip install \. && caffe2tf ", first, re.MULTILINE)
    assert re.search(r"^pip install '\.\[test\]' && pytest$", first, re.MULTILINE)


@pytest.mark.slow
def test_the_first_command_prints_what_the_readme_shows_and_leaves_a_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = re.search(r"^pip install \. && (.*)$", README, re.MULTILINE)[1]
    shown = re.search(r"```text\n(.*?)```", README, re.DOTALL)[1]
    printed = run(line).stdout
    assert_prints(shown, printed)
    for text in (shown, printed):
        assert "PASS  14 of 14 blobs within 1e-05" in text
        assert "PASS  38 of 38 blobs within 1e-05" in text
    recognised = float(re.search(r"([\d.]+)% of the other fifth are recognised", printed)[1])
    assert recognised > 94
    page = (tmp_path / "caffe2tf-demo" / "report.html").read_text()
    assert "caffe2tf demo: <span class=PASS>PASS</span>" in page
    assert f"<b>{recognised}%</b>" in page
    assert page.count("Caffe 1.0 says the same") == 3
    assert [path.name for path in tmp_path.rglob("*")] == ["caffe2tf-demo", "report.html"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the recipes run, one after the other, as somebody would type them."""
    path = tmp_path_factory.mktemp("recipes")
    yield path
    shutil.rmtree(path)  # gigabytes


@pytest.mark.slow
@pytest.mark.parametrize(
    "index", range(len(COMMANDS)), ids=[f"{i}-{line[:60]}" for i, (line, _) in enumerate(COMMANDS)]
)
def test_recipes_run(index, folder, monkeypatch):
    """In their order: later ones use what earlier ones leave."""
    monkeypatch.chdir(folder)
    line, shown = COMMANDS[index]
    printed = run(line).stdout
    if shown:
        assert_prints(shown, printed)


def test_every_command_is_in_some_recipe_and_all_of_them_run():
    used = {shlex.split(line)[1] for line, _ in COMMANDS}
    others = set(main.commands) - used
    assert others <= {"download", "demo", "record-script"}  # a network, the first screen, a machine with Caffe
    assert all(f"caffe2tf {name}" in README for name in others)
    assert set(re.findall(r"^```(\w*)$", README, re.MULTILINE)) - {""} == {"sh", "text", "python"}


@pytest.mark.slow
def test_the_picture_of_a_terminal_is_what_is_printed(alexnet, tmp_path):
    (tmp_path / "bvlc_alexnet.caffemodel").symlink_to(alexnet)
    caffe2tf.sample("squeezenet", tmp_path / "squeezenet_v1.0.caffemodel")
    caffe2tf.sample("photographs", tmp_path / "photographs")
    shown = unescape(re.sub("<[^>]+>", " ", picture.TARGET.read_text(encoding="utf-8"))).replace("\xa0", " ")
    for line in Text.from_ansi(picture.printed(tmp_path)).plain.splitlines():
        for word in re.findall(r"[A-Za-z]\w+|\d[\d,]+", line):
            assert word in shown, line


@pytest.mark.slow
def test_python_examples_run(alexnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bvlc_alexnet.caffemodel").symlink_to(alexnet)
    run("caffe2tf convert bvlc_alexnet.caffemodel -o alexnet.keras -q")
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 4
    for code in examples:
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert (tmp_path / "alexnet.npz").exists()
