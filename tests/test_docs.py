"""The documentation: a page for everything that has one, made from the code, and pages that say what the code says."""

import re
import sys

import pytest

from caffe2tf import formats, layers
from caffe2tf.cli.main import main
from tests.helpers import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import generate


@pytest.fixture(scope="module")
def pages():
    return generate.pages()


def test_there_is_a_page_for_each_command_layer_and_format(pages):
    inner = {f"visualize-{name}" for name in main.commands["visualize"].commands}
    for folder, names in {
        "commands": {"index", *main.commands, *inner},
        "layers": {"index", *layers.REGISTRY},
        "formats": set(formats.names()),
    }.items():
        assert {place.split("/")[1].removesuffix(".md") for place in pages if place.startswith(f"{folder}/")} == names


def test_what_a_command_takes_stands_on_its_page(pages):
    for name, command in main.commands.items():
        page = pages[f"commands/{name}.md"]
        flags = [param.opts[-1] for param in command.params if param.opts[-1].startswith("--")]
        for flag in flags:
            assert f"{flag}" in page, (name, flag)
        assert "\b" not in page


def test_what_a_layer_takes_and_what_others_get_wrong_stand_on_its_page(pages):
    for kind, row in layers.REGISTRY.items():
        for field in row.fields:
            assert f"| `{field}` |" in pages[f"layers/{kind}.md"], (kind, field)
    convolution = pages["layers/Convolution.md"]
    for words in (
        "| `group` | int | 1 |",
        "- equal after swapping its groups",
        "`conv_group2`",
        "caffe2tf/layers/convolution.py",
    ):
        assert words in convolution
    assert "Refused where it is set: `num_output`, `bias_term`, `group`." in pages["layers/Im2col.md"]
    assert "what it computes" in pages["layers/index.md"]
    assert re.search(r"\| \[AbsVal\]\(AbsVal.md\) \| &#124;x&#124;", pages["layers/index.md"])


def test_every_page_is_in_the_contents(pages):
    listed = set(re.findall(r"[\w./-]+\.md", str(generate.nav()) + (ROOT / "mkdocs.yml").read_text()))
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert listed == written | set(pages)


def test_the_readme_and_the_guide_prove_the_same():
    """The table of the README is that of docs/proof.md."""
    readme, guide = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/proof.md"))
    table = [line for line in guide.splitlines() if line.startswith("| ")]
    assert len(table) > 5
    assert all(f"{line}\n" in readme for line in table)
