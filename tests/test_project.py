"""Laws of the project itself: which way imports point, that generated files are current, that words equal code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

import caffe2tf
from caffe2tf import formats, layers
from caffe2tf.cli.main import main
from caffe2tf.net.support import set_fields
from tests.bench import mutation
from tests.helpers import GOLDEN, MODULES, PACKAGE, ROOT, inputs, layer, load, make, parameter

# Each room may import those on lines above its own; rooms of one line do not know each other. Within a room modules are free.
ORDER = """
errors words pages spent
arrays
files
caffe
layers
net
bundled probabilities reference plugins
images
keras_model
formats
loading
verification inspection
drawing
classification
finetuning
samples
cli
__main__
"""
HEAVY = {"tensorflow", "keras", "h5py", "matplotlib"}
MAY_LOAD_HEAVY = {
    "formats/h5.py": {"h5py"},
    "formats/ckpt.py": {"tensorflow"},
    "formats/_claims.py": {"keras"},
    "formats/keras.py": {"keras"},
    "formats/onnx.py": {"keras", "tensorflow"},
    "formats/savedmodel.py": {"keras", "tensorflow"},
    "formats/tflite.py": {"tensorflow"},
    "keras_model/build.py": {"keras"},
    "keras_model/device.py": {"keras"},
    "drawing/render.py": {"matplotlib"},
    "drawing/plots.py": {"matplotlib"},
    "finetuning/batches.py": {"tensorflow"},
    "finetuning/tensorboard.py": {"tensorflow"},
    "finetuning/data.py": {"tensorflow"},
    "finetuning/dropout.py": {"keras", "tensorflow"},
    "finetuning/features.py": {"tensorflow"},
    "finetuning/optimizers.py": {"keras", "tensorflow"},
    "finetuning/keras_steps.py": {"keras"},
    "finetuning/placement.py": {"tensorflow"},
    "finetuning/rows.py": {"tensorflow"},
    "finetuning/steps.py": {"keras", "tensorflow"},
    "finetuning/trainer.py": {"keras"},
    "finetuning/training.py": {"keras"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "caffe2tf":
            yield from (f"caffe2tf.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up_only(path):
    rank = {name: index for index, line in enumerate(ORDER.strip().splitlines()) for name in line.split()}
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        assert not [name for name in imports(path) if name.startswith("caffe2tf")]
        return
    for name in imports(path):
        top, _, rest = name.partition(".")
        other = rest.split(".")[0]
        if top != "caffe2tf" or other in ("", "__version__", own):
            continue
        assert rank[other] < rank[own], f"{own} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_loaded_only_where_meant(path):
    allowed = MAY_LOAD_HEAVY.get(str(path.relative_to(PACKAGE)), set())
    assert {name.split(".")[0] for name in imports(path)} & HEAVY <= allowed


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_are_short_and_have_a_docstring(path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 300


def test_rows_and_public_functions_have_docstrings():
    for kind, row in layers.REGISTRY.items():
        assert row.__doc__, kind
    for name in formats.names():
        assert formats.describe(name).removesuffix(" (loads TensorFlow)").endswith((".", "...", "`"))


def test_caffe_pb2_is_current(tmp_path):
    command = [sys.executable, *["-m", "grpc_tools.protoc", "-Icaffe2tf/caffe=proto"]]
    command += [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", "caffe2tf/caffe/caffe.proto"]
    subprocess.run(command, cwd=ROOT, check=True)
    for name in ("caffe_pb2.py", "caffe_pb2.pyi"):
        assert (tmp_path / "caffe2tf" / "caffe" / name).read_text() == (PACKAGE / "caffe" / name).read_text()
    told = "python -m grpc_tools.protoc -Icaffe2tf/caffe=proto --python_out=. --pyi_out=. caffe2tf/caffe/caffe.proto"
    assert told in (ROOT / "CONTRIBUTING.md").read_text()


def protobuf_bounds():
    return re.search(r"protobuf>=([\d.]+),<(\d+)", (ROOT / "setup.cfg").read_text()).groups()


@pytest.mark.network
@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_caffe_pb2_loads_with_the_oldest_and_newest_protobuf(which, tmp_path):
    least, most = protobuf_bounds()
    wanted = f"protobuf=={least}" if which == "oldest" else f"protobuf<{most}"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path), wanted]
    done = subprocess.run(pip, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
        "import google.protobuf; assert google.protobuf.__file__.startswith(sys.path[0])\n"
        f"from caffe2tf.caffe import read; net = read.read_caffemodel({str(GOLDEN / 'formats' / 'v0' / 'net.caffemodel')!r}).net\n"
        "assert net.layers[0].layer.name == 'conv1'"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=tmp_path)


def test_every_type_and_every_field_has_a_golden_case():
    seen, used = set(), set()
    for path in GOLDEN.glob("*/*/net.prototxt"):
        for item in parameter(path.read_text()).layer:
            seen.add(item.type)
            row = layers.kind_of(item)
            if row and row.param and item.HasField(row.param):
                used.update((row.types[0], field) for field in set_fields(getattr(item, row.param), row.fields))
    elsewhere = "".join(path.read_text() for path in sorted((ROOT / "tests").glob("test_forks*.py")))
    for kind in set(layers.REGISTRY) - seen:
        assert f'"{kind}"' in elsewhere, kind
    for row in layers.REGISTRY.values():
        for field in row.fields:
            name = field.split(".")[-1]
            assert (row.types[0], field) in used or re.search(rf"\b{name}(: | {{)", elsewhere), (row.types[0], field)


def test_every_spatial_type_has_a_case_of_two_items_and_four_different_extents():
    found, spatial = set(), set()
    for path in [*GOLDEN.glob("layers/*"), *GOLDEN.glob("forks/*")]:
        for node in load(path).nodes:
            shape = node.layer.bottoms[0] if node.layer.bottoms else ()
            if len(shape) == 4:
                spatial.add(node.layer.type)
                if shape[0] > 1 and len(set(shape)) == 4:
                    found.add(node.layer.type)
    # Priors and regions are of one image by definition; Split only copies.
    assert spatial - found <= {"PriorBox", "ROIPooling", "PSROIPooling", "Proposal", "Split"}


def test_every_row_that_broadcasts_has_a_case_of_equal_extents():
    names = {path.name.split("_")[0] for path in GOLDEN.glob("layers/*_equal_extents")}
    assert {
        "bias",
        "scale",
        "eltwise",
        "conv",
        "ip",
        "lrn",
        "batch",
        "prelu",
        "mvn",
        "softmax",
        "reduction",
        "lstm",
    } <= names


FORMATS = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")


def test_the_guide_lists_every_format():
    rows = [line.split("|")[1] for line in FORMATS.split("\n## ", 1)[0].splitlines() if line.startswith("| `")]
    assert {row.strip(" `.") for row in rows} == set(formats.names())


def test_the_guide_says_what_is_a_model_again():
    """Every format in one row, which says what its module does."""
    section = FORMATS.split("## What is a model again\n", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")]
    told = {kind: tuple(cells) for first, *cells in rows for kind in re.findall(r"`\.?(\w+)`", first)}
    assert sum(first.count("`") // 2 for first, *_ in rows) == len(told)
    assert set(told) == set(formats.names())
    for kind, (text, weights, runs, judged) in told.items():
        if kind == "caffemodel":
            assert text == "inside, or beside"
            continue
        whole, alone = formats.runnable(kind), formats.readable(kind)
        converted = "_held.places(" in (PACKAGE / "formats" / f"{kind}.py").read_text()
        layers_too = "\ndef layers(" in (PACKAGE / "formats" / f"{kind}.py").read_text()
        assert text == ("inside" if whole else "beside" if alone else ""), kind
        assert weights == (
            "exact, where the converter left them whole" if converted else "exact" if whole or alone else ""
        )
        assert runs == ("the file" if whole else "the Keras model" if alone else "")
        assert judged == (
            f"the file's {'layers' if layers_too else 'output'}" if whole else "every layer" if alone else ""
        )


def test_the_guide_names_every_weight():
    section = FORMATS.split("## Names of weights\n", 1)[1]
    from caffe2tf.formats._files import TENSORFLOW_NAMES

    for keras_name, tensorflow_name in TENSORFLOW_NAMES.items():
        assert f"`{keras_name}`" in section
        assert f"`{tensorflow_name}`" in section


def test_the_readme_leads_to_every_guide_and_is_one_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    for place in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / place).exists(), place
    own = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert own <= set(re.findall(r"\]\((docs/[\w-]+\.md)\)", text))


def test_version_is_in_the_changelog():
    assert f"## {caffe2tf.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_project_speaks_of_itself_alone():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    for name in tracked:
        path = Path(ROOT / name)
        if path.suffix in (".caffemodel", ".npz", ".npy", ".binaryproto", ".png") or "corpus" in path.parts:
            continue
        assert not re.search(r"/wor[k]/|/home/\w|T[O]DO|F[I]XME", path.read_text()), name


def test_contributing_names_every_room():
    """Who opens the folder finds each of its parts in the table."""
    table = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    alone = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py", "errors.py"}
    assert not [room for room in rooms if f"`caffe2tf/{room}/`" not in table]
    assert not [name for name in alone if name not in table]


def test_a_class_is_enough_for_a_layer(tmp_path):
    """The class that CONTRIBUTING shows: nothing else names its type."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## Add a layer\n", 1)[1]
    code = section.split("```python\n", 1)[1].split("```\n", 1)[0]
    spare = dict(layers.REGISTRY)
    try:
        exec(compile(code, "CONTRIBUTING.md", "exec"), {"__name__": "caffe2tf.layers.hard"})
        net = caffe2tf.load(make(tmp_path, inputs(data=(1, 2)) + layer("HardSigmoid"))[0])
        pytest.importorskip("keras")
        found = caffe2tf.forward(net, {"data": np.array([[-9.0, 0.5]])})["top"]
        np.testing.assert_allclose(found, [[0.0, 0.6]], rtol=1e-6)
    finally:
        layers.REGISTRY.clear()
        layers.REGISTRY.update(spare)


def test_a_file_is_enough_for_a_format(tmp_path, monkeypatch):
    """The file that CONTRIBUTING shows."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## Add a format\n", 1)[1]
    (tmp_path / "csv.py").write_text(section.split("```python\n", 1)[1].split("```\n", 1)[0])
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    net = load(GOLDEN / "layers" / "ip_chain")
    caffe2tf.save(net, str(tmp_path / "net.csv"))
    lines = (tmp_path / "net.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines] == [
        ["fc6", "kernel"],
        ["fc6", "bias"],
        ["fc7", "kernel"],
        ["fc7", "bias"],
    ]
    assert "csv" in formats.names()
    monkeypatch.undo()
    sys.modules.pop("caffe2tf.formats.csv")
    assert "csv" not in formats.names()


def test_a_line_is_enough_for_a_setting():
    """Each setting stands once, as a field: no option of the command is declared by hand for one."""
    from dataclasses import fields

    from caffe2tf.finetuning import settings

    names = {field.name for kind in (settings.Recipe, settings.Stage) for field in fields(kind)} - {"stages"}
    command = main.commands["finetune"]
    # A command keeps the names of its help option, which it has from `main`.
    context = click.Context(command, help_option_names=[])
    assert names <= {param.name for param in command.get_params(context)}
    declared = re.findall(r'sections\.\w+\(\s*"--([a-z-]+)"', (PACKAGE / "cli" / "finetune.py").read_text())
    assert not names & {name.replace("-", "_") for name in declared}


def test_changes_that_no_test_notices_are_told_with_a_reason_and_fit_the_code():
    rows = mutation.listed()
    every = {path: mutation.mutants(path) for path in {PACKAGE / row[0].split()[0] for row in rows}}
    for row, why in rows.items():
        assert any(mutant.is_listed({row}) for mutant in every[PACKAGE / row[0].split()[0]]), row
        assert why, row
