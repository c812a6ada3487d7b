"""The commands as users type them."""

import json
import os
import shutil
import signal
import subprocess
import sys

import click
import numpy as np
import pytest

from caffe2tf.cli.main import main
from tests.helpers import GOLDEN, ROOT, inputs, layer, make, run

V1 = str(GOLDEN / "formats" / "v1" / "net.caffemodel")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_convert_as_typed(here):
    result = run("convert", V1)
    assert os.listdir(here) == ["net.npy"]
    assert "conv1  Convolution   kernel  5 x 5 x 3 x 8  2,400" in result.stdout
    assert "net.npy  npy" in result.stdout
    assert np.load("net.npy", allow_pickle=True).item()["fc3"][0].shape == (96, 5)


def test_convert_several_at_once(here):
    run("convert", V1, "-o", "a.npz", "-o", "b.h5", "-o", "c.safetensors", "-o", "d.caffemodel", "-q")
    assert sorted(os.listdir(here)) == ["a.npz", "b.h5", "c.safetensors", "d.caffemodel"]
    run("convert", V1, "--to", "npz")
    run("convert", V1, "--to", "npz", "-o", "weights.bin", "-q")
    with np.load("weights.bin") as named, np.load("net.npz") as plain:
        assert named.files == plain.files


def test_quiet_prints_nothing(here):
    result = run("convert", V1, "-q")
    assert result.output == ""


def test_nothing_is_replaced_without_force(here):
    (here / "net.npy").write_text("mine")
    result = run("convert", V1, code=1)
    assert result.stderr == "caffe2tf: net.npy: exists already; -f/--force replaces it\n"
    assert (here / "net.npy").read_text() == "mine"
    run("convert", V1, "-f")
    assert (here / "net.npy").stat().st_size > 4


def test_the_source_is_never_the_target(here):
    copy = here / "net.caffemodel"
    shutil.copy(V1, copy)
    result = run("convert", copy, "-f", "--to", "caffemodel", code=1)
    assert "is the file that is read" in result.stderr


@pytest.mark.parametrize(
    ("args", "code", "why"),
    [
        (["convert", "nothing.caffemodel"], 1, "caffe2tf: nothing.caffemodel: no such file or directory"),
        (["convert", V1, "-o", "no/x.npy"], 1, "no/x.npy: its folder does not exist; make it first"),
        (["convert", V1, "-o", "x.pb"], 1, "no format has the suffix '.pb'"),
        (["convert", V1, "-p", V1], 1, "is binary, expected a network text"),
        (["convert", str(GOLDEN / "formats" / "v1" / "net.prototxt")], 1, "is text, expected a binary .caffemodel"),
        (["convert"], 2, "Missing argument '[PROTOTXT] MODEL...'"),
        (["convert", V1, "--input-shape", "data=1,3,x"], 2, "takes N,C,H,W or NAME=N,C,H,W"),
        (["convert", V1, "--input-shape", "dota=1,3,8,8"], 1, "--input-shape names 'dota'; the inputs are data"),
        (
            ["convert", V1, "--npy-layout", "list", "-o", "x.npz"],
            2,
            "--npy-layout says how a .npy is written, and no -o is one",
        ),
        (["convert", V1, "--npy-layout", "tuple"], 2, "'tuple' is not one of 'auto', 'dict', 'list'"),
        (["inspect"], 2, "Missing argument 'FILE...'"),
        (["fly"], 2, "No such command 'fly'"),
    ],
)
def test_what_goes_wrong_is_one_line(args, code, why, here):
    result = run(*args, code=code)
    assert why in result.stderr
    assert "Traceback" not in result.output
    if code == 1:
        assert len(result.stderr.splitlines()) == 1
    assert os.listdir(here) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_is_not_writable(here):
    here.chmod(0o500)
    assert "its folder is not writable" in run("convert", V1, code=1).stderr


def test_assumptions_are_printed(here):
    data = 'layer { name: "d" type: "Data" top: "data" }'
    text = data + layer("Convolution", "convolution_param { num_output: 2 kernel_size: 3 }", tops=["c"], name="c")
    text += layer("InnerProduct", "inner_product_param { num_output: 3 }", bottoms=["c"])
    _, caffemodel = make(here, text, {"c": [(2, 1, 3, 3), (2,)], "x": [(3, 2 * 9), (3,)]})
    result = run("convert", caffemodel)
    assert "note: layer 'x' (InnerProduct): its bottom is taken as 3x3" in result.stderr
    shown = json.loads(run("inspect", caffemodel, "--json").stdout)["files"][0]
    assert shown["inputs"] == {"data": [1, 1, None, None]}
    assert shown["multiply_adds"] is None
    assert "1 x 2 x ? x ?" in run("inspect", caffemodel).stdout


def test_inspect_alexnet(alexnet):
    shown = json.loads(run("inspect", alexnet, "--json").stdout)["files"][0]
    parameters = {item["name"]: item["parameters"] for item in shown["layers"] if item["parameters"]}
    assert parameters == {
        "conv1": 34_944, "conv2": 307_456, "conv3": 885_120, "conv4": 663_936, "conv5": 442_624,
        "fc6": 37_752_832, "fc7": 16_781_312, "fc8": 4_097_000,
    }  # fmt: skip
    assert shown["parameters"] == 60_965_224
    assert shown["multiply_adds"] == 724_406_816
    assert shown["encoding"] == "V1"
    plain = run("inspect", alexnet).stdout
    assert "60,965,224" in plain
    assert "AlexNet with random weights, V1" in plain.splitlines()[0]


def test_inspect_lists_everything_that_is_not_supported(here):
    text = (
        inputs(data=(1, 3, 8, 8)) + layer("Warp", tops=["r"], name="r") + layer("Segmentation", bottoms=["r"], name="p")
    )
    prototxt, _ = make(here, text)
    result = run("inspect", prototxt, code=1)
    assert "not supported: layer 'r': type 'Warp'" in result.stdout
    assert "not supported: layer 'p': type 'Segmentation'" in result.stdout
    assert len(json.loads(run("inspect", prototxt, "--json", code=1).stdout)["files"][0]["unsupported"]) == 2
    assert len(run("convert", V1, "-p", prototxt, code=1).stderr.splitlines()) == 2


def test_inspect_says_what_fixes_the_batch():
    path = GOLDEN / "layers" / "tile_batch_nchw" / "net.prototxt"
    assert "batch fixed by x, which use axis 0" in run("inspect", path).stdout
    assert json.loads(run("inspect", path, "--json").stdout)["files"][0]["fixed_batch"] == ["x"]
    assert "batch fixed" not in run("inspect", GOLDEN / "layers" / "tile_nchw" / "net.prototxt").stdout


def test_inspect_verbose_lists_what_has_no_effect(here):
    filler = 'convolution_param { num_output: 2 kernel_size: 1 engine: CAFFE weight_filler { type: "xavier" } }'
    prototxt, _ = make(here, inputs(data=(1, 3, 8, 8)) + layer("Convolution", "param { lr_mult: 1 } " + filler))
    assert "lr_mult weight_filler engine" in run("inspect", prototxt, "-v").stdout
    assert "weight_filler" not in run("inspect", prototxt).stdout


def test_whole_models_say_their_difference(here):
    pytest.importorskip("tensorflow")
    result = run("convert", V1, "-o", "x.keras", "-o", "saved/", "-o", "x.tflite", "--quantize")
    assert "x.keras  keras" in result.stdout
    assert result.stdout.count("read back, largest difference") == 3
    assert sorted(os.listdir(here)) == ["saved", "x.keras", "x.tflite"]
    assert "exists already" in run("convert", V1, "-o", "saved/", code=1).stderr
    run("convert", V1, "-o", "saved/", "-f", "-q")
    assert "--quantize says how a .tflite is written" in run("convert", V1, "--quantize", code=2).stderr


def test_fold_says_what_it_saves(here):
    path = GOLDEN / "layers" / "residual_block"
    result = run("convert", path / "net.caffemodel", "-p", path / "net.prototxt", "--fold", "-o", "x.npz")
    assert "folded 4 layers into 2 convolutions" in result.stderr
    assert set(np.load("x.npz").files) == {"b1/kernel", "c1/kernel", "c1/bias", "c2/kernel", "c2/bias"}


def test_whole_models_need_a_size(here):
    pytest.importorskip("tensorflow")
    data = 'layer { name: "d" type: "Data" top: "data" }'
    text = data + layer("Convolution", "convolution_param { num_output: 2 kernel_size: 3 }", tops=["c"], name="c")
    text += layer("InnerProduct", "inner_product_param { num_output: 3 }", bottoms=["c"])
    _, caffemodel = make(here, text, {"c": [(2, 1, 3, 3), (2,)], "x": [(3, 2 * 9), (3,)]})
    result = run("convert", caffemodel, "-o", "x.keras", code=1)
    assert (
        "the files do not tell the size of data, which this network needs; give it with --input-shape" in result.stderr
    )
    run("convert", caffemodel, "-o", "x.keras", "--input-shape", "1,1,5,5")


def test_convert_says_which_layout_a_npy_has(here):
    said = run("convert", V1, "-o", "a.npy", "-o", "a.npz").stdout
    assert "kB  {'conv1': [W, b], ...}, for the AlexNet and VGG tutorials: numpy.load(path, allow_pickle=True" in said
    assert "tutorials" not in said.splitlines()[-1]
    assert "for caffe-tensorflow's networks" in run("convert", V1, "-o", "b.npy", "--npy-layout", "dict").stdout


def test_help_stands_under_headings():
    text = run("finetune", "--help").stdout
    places = [text.index(f"\n{heading}:\n") for heading in ("Input", "Pictures", "Training", "Output", "Running")]
    assert places == sorted(places)
    shown = [text.index(f"\n  {option} ", places[0]) for option in ("--epochs", "--keep", "-h, --help")]
    assert places[2] < shown[0] < places[3] < shown[1] < places[4] < shown[2]
    for name in main.commands:
        if name not in ("completion", "record-script", "visualize"):
            assert "\nOptions:\n" not in run(name, "--help").stdout, f"{name} has an option under no heading"


def test_sample_refuses_to_replace(here):
    (here / "bvlc_alexnet.caffemodel").write_text("mine")
    assert "exists already" in run("sample", code=1).stderr
    assert (here / "bvlc_alexnet.caffemodel").read_text() == "mine"


def test_help_of_every_command_has_an_example_and_needs_no_tensorflow():
    for name in main.commands:
        text = run(name, "--help").stdout
        assert f"caffe2tf {name}" in text, name
        assert "Example" in text, name
    assert "--version" in run("--help").stdout
    assert run("--version").stdout.startswith("caffe2tf ")
    heavy = "{'numpy', 'tensorflow', 'keras', 'h5py', 'matplotlib', 'rich', 'google.protobuf'} & set(sys.modules)"
    code = f"import sys; from caffe2tf.cli.main import main\ntry: main(['inspect', '--help'])\nfinally: sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_list_of_commands_loads_little_beside_click():
    """Half of what --help took was commands' modules, logging and what finds modules."""
    needless = "{'logging', 'pkgutil', 'traceback', 'ast', 'importlib.metadata', *(f'caffe2tf.cli.{n}' for n in list(main.commands))}"
    code = (
        "import sys, click; before = set(sys.modules); from caffe2tf.cli.main import main\ntry: main(['--help'])\n"
        f"finally: found = {needless} & (set(sys.modules) - before); sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_inspect_loads_nothing_heavy():
    heavy = "{'tensorflow', 'keras', 'h5py', 'matplotlib'} & set(sys.modules)"
    code = f"import sys; from caffe2tf.cli.main import main\ntry: main(['inspect', {V1!r}])\nfinally: sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_killed_run_leaves_the_old_file_or_none(here):
    code = (
        "import os, signal, caffe2tf\nfrom caffe2tf.formats import npz\n"
        "old = npz.save\n"
        "def save(net, path, progress=None):\n old(net, path)\n os.kill(os.getpid(), signal.SIGKILL)\n"
        f"npz.save = save\ncaffe2tf.save(caffe2tf.load(None, {V1!r}), 'x.npz')"
    )
    (here / "x.npz").write_text("old")
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert (here / "x.npz").read_text() == "old"


# ------------------------------------------------------------------------------------------------ commands as files


def test_a_file_is_enough_for_a_command(tmp_path, monkeypatch):
    """The command that CONTRIBUTING shows."""
    import caffe2tf.cli

    section = (ROOT / "CONTRIBUTING.md").read_text().split("## Add a command\n", 1)[1]
    (tmp_path / "count.py").write_text(section.split("```python\n", 1)[1].split("```\n", 1)[0])
    monkeypatch.setattr(caffe2tf.cli, "__path__", [*caffe2tf.cli.__path__, str(tmp_path)])
    assert run("count", TEXT, V1).stdout == "1315\n"
    assert "caffe2tf count net.caffemodel" in run("count", "--help").stdout
    names = [line.split()[0] for line in run("--help").stdout.split("Commands:\n")[1].splitlines()]
    assert names.index("inspect") < names.index("count") < names.index("verify")
    monkeypatch.undo()
    assert "No such command 'count'" in run("count", code=2).stderr


def test_every_file_is_a_command_or_shared():
    shared = {"__init__", "main", "options", "sections", "stopping", "terminal"}
    files = {path.stem for path in (ROOT / "caffe2tf" / "cli").glob("*.py")}
    assert {name.replace("_", "-") for name in files - shared} == set(main.commands)


def test_help_says_of_every_command_what_it_says_itself():
    """The list is made without importing a command: reading its file must give what click knows of it."""
    listed = " ".join(run("--help").stdout.split("Commands:\n")[1].split())
    for name, command in main.commands.items():
        assert command.short_help
        assert f"{name} {command.short_help}" in listed


@pytest.mark.parametrize(
    ("options", "level"), [([], "3"), (["-v"], "1"), (["-qv"], "1"), (["-vq"], "1"), (["-q"], "3")]
)
def test_tensorflows_messages_follow_verbose(options, level, here):
    code = "import os, sys; from caffe2tf.cli.main import main\ntry: main(sys.argv[1:])\nfinally: print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-c", code, "convert", V1, "-o", "x.npz", *options]
    done = subprocess.run(command, capture_output=True, text=True, env={**environment, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == level
    assert (done.stdout.splitlines()[:-1] == []) == any("q" in option for option in options)


# ------------------------------------------------------------------------------------------------ a text and a model

TEXT = str(GOLDEN / "formats" / "v1" / "net.prototxt")


@pytest.mark.parametrize("files", [(TEXT, V1), (V1, TEXT), (V1, "-p", TEXT)])
def test_a_text_and_a_model_in_either_order(files, here):
    run("convert", *files, "-o", "x.npz", "-q")
    (shown,) = json.loads(run("inspect", *files, "--json").stdout)["files"]
    assert shown["file"] == V1
    run("visualize", "filters", *files, "conv1")
    run("visualize", "graph", *files)
    assert sorted(os.listdir(here)) == ["net-conv1.png", "net-graph.svg", "x.npz"]


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_the_commands_that_run_a_network_take_either_order(order, here):
    pytest.importorskip("keras")
    from PIL import Image

    Image.new("RGB", (19, 19), (10, 20, 30)).save("cat.png")
    files = (TEXT, V1)[order]
    assert run("classify", *files, "cat.png", "-q").stdout == run("classify", V1, "cat.png", "-q").stdout
    run("visualize", "activations", *files, "cat.png", "conv1", "pool1", "-q")
    run("visualize", "all", *files, "cat.png", "-q")
    case = GOLDEN / "layers" / "conv_basic"
    run("verify", *(case / "net.prototxt", case / "net.caffemodel")[order], "--golden", case, "-q")


@pytest.mark.parametrize(
    ("args", "code", "why"),
    [
        (["convert", TEXT, TEXT], 1, "two network texts came; takes one network text and one model"),
        (["convert", V1, V1], 2, "would have results of one name; convert them one by one with -o"),
        (["convert", TEXT, V1, "-p", TEXT], 2, "the network text is named once, with -p or without"),
        (["visualize", "filters", TEXT, V1], 2, "Missing argument 'LAYER'"),
        (["visualize", "filters", V1, "conv1", "conv2"], 2, "Got unexpected extra argument (conv2)"),
        (["visualize", "activations", V1, "cat.png"], 2, "Missing argument 'LAYER...'"),
        (["classify", TEXT, V1], 2, "Missing argument 'IMAGE...'"),
    ],
)
def test_files_that_are_no_pair(args, code, why, here):
    assert why in run(*args, code=code).stderr


def test_messages_name_flags_here_and_arguments_in_the_library(here):
    from caffe2tf import formats, loading
    from caffe2tf.errors import OutputError

    (here / "net.npy").write_text("mine")
    assert "exists already; -f/--force replaces it" in run("convert", V1, code=1).stderr
    with pytest.raises(OutputError, match="exists already; `force` replaces it"):
        formats.save(loading.load(V1), "net.npy", force=False)


def test_looking_for_flags_leaves_the_help_alone():
    """In a process that has shown no help yet: click makes the option --help once."""
    code = (
        "from caffe2tf.cli import main, terminal\ncommand = main.main.commands['inspect']\n"
        "print(terminal.with_flags('`prototxt`', command))\nmain.main(['inspect', '--help'])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout
    assert shown.startswith("-p/--prototxt\n")
    assert "\n  -h, --help " in shown


def test_help_speaks_plainly():
    """Every option has a sentence: it starts with a capital, ends with a stop, and has a verb's room."""
    for name, command in main.commands.items():
        for group in [command, *getattr(command, "commands", {}).values()]:
            for param in group.get_params(click.Context(group, help_option_names=[])):
                text = getattr(param, "help", None)
                if text is not None:
                    assert len(text.split("  [")[0].split()) >= 2, (name, param.name, text)
                    assert not text.startswith("Of "), (name, param.name, text)
