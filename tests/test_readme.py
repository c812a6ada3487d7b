"""Every command of the README and of the guides runs on what `sample` writes, and prints what the page shows."""

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
from tests import outputs, picture
from tests.helpers import README, ROOT, agrees, assert_prints, blocks, pages

PAGES = pages()
TEXT = "\n".join(PAGES.values())
INSTALLED = re.search(r"^pip install \. && (.*)$", README, re.MULTILINE)[1]
COMMANDS = [(page, *block) for page, text in PAGES.items() for block in blocks(text) if block[0] != INSTALLED]


def run(line):
    result = CliRunner().invoke(main, shlex.split(line)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_the_two_commands_are_in_the_first_screen():
    first = README[: README.index("## ")]
    assert re.search(r"^pip install \. && caffe2tf ", first, re.MULTILINE)
    assert re.search(r"^pip install '\.\[test\]' && pytest$", first, re.MULTILINE)


@pytest.mark.slow
def test_the_first_command_prints_what_the_readme_shows_and_leaves_a_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = re.search(r"```text\n(.*?)```", README, re.DOTALL)[1]
    printed = run(INSTALLED).stdout
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
def folders(tmp_path_factory):
    """Where the commands of a page run, one after the other, as somebody would type them: a page needs no other."""
    made = {}
    yield lambda page: made.setdefault(page, tmp_path_factory.mktemp("page"))
    for path in made.values():
        shutil.rmtree(path)  # gigabytes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "line", "shown"), COMMANDS, ids=[f"{i}-{page}-{line[:60]}" for i, (page, line, _) in enumerate(COMMANDS)]
)
def test_recipes_run(page, line, shown, folders, monkeypatch):
    """In their order: later ones of a page use what earlier ones leave."""
    monkeypatch.chdir(folders(page))
    printed = run(line).stdout
    if shown:
        assert_prints(shown, printed)


def test_every_command_is_in_some_recipe_and_all_of_them_run():
    used = {shlex.split(line)[1] for _, line, _ in COMMANDS}
    others = set(main.commands) - used
    assert others <= {"download", "demo", "record-script"}  # a network, the first screen, a machine with Caffe
    assert all(f"caffe2tf {name}" in TEXT for name in others)
    assert set(re.findall(r"^```(\w*)$", TEXT, re.MULTILINE)) - {""} == {"sh", "text", "python"}


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("24", "24", True),
        ("24", "25", False),
        ("0.9412", "0.9421", True),
        ("0.9412", "0.9721", False),
        ("0.93..0.96", "0.9412", True),
        ("0.93..0.96", "0.9612", False),
        ("2.6e-06", "4.1e-06", True),
        ("2.6e-06", "4.1e-05", False),
        ("1x61x6x0", "1x60x2x3", True),
    ],
)
def test_figures_agree_within_what_machines_differ_by(shown, printed, same):
    assert agrees(shown, printed) == same


def test_a_page_is_written_anew_line_by_line():
    shown = "epoch   1  loss 9.9  accuracy 0.40..0.45\n...\ndone in 3.2 s, 0.5 of it\n"
    printed = "epoch   1  loss 8.1  accuracy 0.4321\nepoch   2  loss 7  accuracy 0.5\ndone in 9.9 s, 0.7 of it\n"
    assert outputs.renewed(shown, printed) == (
        "epoch   1  loss 8.1  accuracy 0.40..0.45\n...\ndone in 9.9 s, 0.7 of it\n",
        [],
    )
    with pytest.raises(AssertionError, match=r"9\.9 is 8\.1"):
        assert_prints(shown, printed)
    (outside,) = outputs.renewed(shown, printed.replace("0.4321", "0.4821"))[1]
    assert "0.4821 lies outside 0.40..0.45" in outside
    assert outputs.renewed("one\n...\nlast\n", "1st\n2nd\n3rd\n") == ("1st\n...\n3rd\n", [])


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
    run("caffe2tf convert bvlc_alexnet.caffemodel -o alexnet.keras -o alexnet_saved/ -q")
    run("caffe2tf sample squeezenet")
    run("caffe2tf sample photographs")
    run("caffe2tf convert squeezenet_v1.0.caffemodel --with-preprocessing -o pictures.keras -q")
    examples = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(examples) == 6
    for code in examples:
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert (tmp_path / "alexnet.npz").exists()


def test_a_line_with_ranges_is_written_anew():
    shown = "epoch 5  loss 0.9..1.1  accuracy 0.95  0.9 s, 12 s left\n"
    found = "epoch 5  loss 1.0512  accuracy 0.96  4.2 s, 60 s left\n"
    assert outputs.renewed(shown, found) == ("epoch 5  loss 0.9..1.1  accuracy 0.96  4.2 s, 60 s left\n", [])
    assert outputs.renewed(shown, found.replace("1.0512", "1.5"))[1] == [
        "epoch 5  loss 0.9..1.1  accuracy 0.95  0.9 s, 12 s left: 1.5 lies outside 0.9..1.1"
    ]


def test_a_time_of_minutes_is_one_figure():
    """A page that shows seconds is written anew where a slower machine takes minutes, and keeps its ranges."""
    shown = "epoch 1  loss 0.90..0.94  0.9 s, 12 s left\n...\n"
    made, wrong = outputs.renewed(shown, "epoch 1  loss 0.91  2.9 s, 1 min 02 s left\nepoch 2\n")
    assert made == "epoch 1  loss 0.90..0.94  2.9 s, 1 min 02 s left\n...\n"
    assert not wrong
    assert_prints(shown, made.replace("0.90..0.94", "0.92"))
