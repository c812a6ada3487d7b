"""Where the tests find their data, how they make networks of their own, and when two results are the same."""

import functools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result
from google.protobuf import text_format
from PIL import Image

from caffe2tf import loading
from caffe2tf.caffe import caffe_pb2
from caffe2tf.cli.main import main
from caffe2tf.net.net import Net

Array = npt.NDArray[Any]

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "golden"
SHARED = Path(os.environ.get("CAFFE2TF_SHARED", ROOT.parent / "shared"))
PACKAGE = ROOT / "caffe2tf"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "caffe_pb2.py")


def run(*args: object, code: int = 0) -> Result:
    """Runs a command of ours and returns click's result; its exit code must be `code`."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


# ------------------------------------------------------------------------------------------------ networks of our own


def parameter(text: str) -> caffe_pb2.NetParameter:
    """A NetParameter from its text."""
    return text_format.Parse(text, caffe_pb2.NetParameter())


def layer(
    kind: str, params: str = "", bottoms: Sequence[str] = ("data",), tops: Sequence[str] = ("top",), name: str = "x"
) -> str:
    wires = " ".join([*(f'bottom: "{b}"' for b in bottoms), *(f'top: "{t}"' for t in tops)])
    return f'layer {{ name: "{name}" type: "{kind}" {wires} {params} }}'


def inputs(**shapes: Sequence[int]) -> str:
    return "\n".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {n}" for n in shape)
        + " } } }"
        for name, shape in shapes.items()
    )


def make(
    folder: str | Path, text: str, blobs: Mapping[str, Sequence[Any]] | None = None, seed: int = 0
) -> tuple[str, str]:
    """Writes `text` and a .caffemodel with blobs {layer: [shape or array, ...]}; returns (prototxt, caffemodel)."""
    random = np.random.RandomState(seed)
    net = parameter(text)
    for item in net.layer:
        for blob in (blobs or {}).get(item.name, ()):
            array = blob if isinstance(blob, np.ndarray) else random.uniform(-1, 1, blob)
            proto = item.blobs.add()
            proto.shape.dim.extend(array.shape)
            proto.data.extend(np.asarray(array, np.float32).ravel())
    prototxt, caffemodel = Path(folder) / "net.prototxt", Path(folder) / "net.caffemodel"
    prototxt.write_text(text)
    caffemodel.write_bytes(net.SerializeToString())
    return str(prototxt), str(caffemodel)


COLOURS = {"blue": (30, 30, 220), "green": (30, 220, 30), "red": (220, 30, 30)}
SMALL = ["net.caffemodel", "-p", "net.prototxt"]


def write_small_set(folder: Path) -> None:
    """A small AlexNet-like network and three classes of ten pictures, in a folder per class: it trains in a second."""
    text = inputs(data=(1, 3, 12, 12))
    text += layer("Convolution", "convolution_param { num_output: 8 kernel_size: 3 }", tops=["c"], name="conv1")
    text += layer("ReLU", bottoms=["c"], tops=["c"], name="relu1")
    text += layer(
        "Pooling", "pooling_param { pool: AVE kernel_size: 5 stride: 5 }", bottoms=["c"], tops=["p"], name="pool"
    )
    text += layer("InnerProduct", "inner_product_param { num_output: 16 }", bottoms=["p"], tops=["h"], name="fc7")
    text += layer("ReLU", bottoms=["h"], tops=["h"], name="relu7") + layer(
        "Dropout", bottoms=["h"], tops=["h"], name="drop7"
    )
    text += layer("InnerProduct", "inner_product_param { num_output: 10 }", bottoms=["h"], tops=["s"], name="fc8")
    text += layer("Softmax", bottoms=["s"], tops=["prob"], name="prob")
    random = np.random.RandomState(1)
    blobs = {
        "conv1": [random.randn(8, 3, 3, 3) * 0.05, (8,)],
        "fc7": [random.randn(16, 32) * 0.05, (16,)],
        "fc8": [(10, 16), (10,)],
    }
    make(folder, text, blobs)
    for name, colour in COLOURS.items():
        (folder / "train" / name).mkdir(parents=True)
        for index in range(10):
            noise = random.randint(-25, 26, (14, 16, 3))
            Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(
                folder / "train" / name / f"{index}.png"
            )


def load_small() -> Net:
    """The network of `write_small_set` in the working folder."""
    return loading.load("net.prototxt", "net.caffemodel")


# ------------------------------------------------------------------------------------------------ golden results

RELATIVE = 1e-5  # L2 norm of the difference, of the blob's norm
LARGEST = 1e-4  # largest difference, of the blob's largest value


def cases(*kinds: str) -> list[Any]:
    """The golden folders of some kinds, as pytest parameters."""
    paths = [path for kind in kinds for path in sorted((GOLDEN / kind).iterdir())]
    return [pytest.param(path, id=path.name) for path in paths if path.is_dir()]


def load(path: Path, **options: Any) -> Net:
    """The network of a golden folder."""
    text = next(path / name for name in ("net.prototxt", "deploy.prototxt") if (path / name).exists())
    return loading.load(str(text), str(path / "net.caffemodel"), **options)


def golden(path: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """({input: array}, {blob: array}) of a golden folder; the first holds the inputs that a layer overwrites alone."""
    file = path / "blobs.npz" if (path / "blobs.npz").exists() else GOLDEN / "formats" / "blobs.npz"
    with np.load(file) as archive:
        blobs = {name: archive[name] for name in archive.files}
    given = {name.removeprefix("in:"): array for name, array in blobs.items() if name.startswith("in:")}
    return given, {name: array for name, array in blobs.items() if not name.startswith("in:")}


def inputs_of(net: Net, path: Path) -> dict[str, Array]:
    """{input of `net`: what Caffe was given}."""
    given, blobs = golden(path)
    return {name: given[name] if name in given else blobs[name] for name in net.inputs}


@functools.cache
def computed(path: Path) -> tuple[Net, Mapping[str, Array]]:
    """(network, every blob by `forward`) of a golden folder: computed once for all tests of a process, to be read only."""
    from caffe2tf.keras_model import model

    net = load(path)
    return net, model.forward(net, inputs_of(net, path))


def is_model(net: Net) -> bool:
    """Whether `net` computes something from an input."""
    return bool(net.inputs) and any(not net.is_constant(blob) for blob in net.outputs)


def error(found: Array, expected: Array) -> tuple[float, float]:
    """(relative L2, largest difference of the largest value)."""
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    norm, top = np.linalg.norm(expected), np.abs(expected).max(initial=0)
    return np.linalg.norm(found - expected) / (norm or 1), np.abs(found - expected).max(initial=0) / (top or 1)


def assert_same(name: str, found: Array, expected: Array) -> None:
    assert found.shape == expected.shape, f"{name}: shape {found.shape}, Caffe's {expected.shape}"
    relative, largest = error(found, expected)
    assert relative <= RELATIVE, f"{name}: relative L2 {relative:.3g}"
    assert largest <= LARGEST, f"{name}: largest difference {largest:.3g} of the largest value"


# ------------------------------------------------------------------------------------------------ the README

README = (ROOT / "README.md").read_text()


def blocks() -> list[tuple[str, str | None]]:
    """[(command, what the README says it prints or None)] of the fenced blocks `sh`, which run anywhere. What the last command
    of a block prints is the `text` block right after it."""
    found: list[tuple[str, str | None]] = []
    for block, shown in re.findall(r"```sh\n(.*?)```\n(?:\n```text\n(.*?)```)?", README, re.DOTALL):
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        commands = [line for line in lines if line.startswith("caffe2tf ")]
        found += [(line, None) for line in commands[:-1]] + [(line, shown or None) for line in commands[-1:]]
    return found


def skeleton(text: str) -> list[str]:
    """`text` without its figures: times, errors and places differ from machine to machine, and times in width."""
    lines = (re.sub(r" +", " ", line).replace("[ ", "[") for line in text.splitlines())
    lines = (re.sub(r"\d[\d.]*( s| min \d+ s| h \d+ min)\b", "# s", line) for line in lines)  # 59 s may be 1 min 01 s
    return [re.sub(r"[0-9.e+x-]*[0-9][0-9.e+x-]*", "#", line).strip() for line in lines]


def assert_prints(shown: str, printed: str, figures: bool = True) -> None:
    """That `printed` has the lines of `shown`, in which `...` stands for any lines; figures within two in a hundred."""
    pattern = "".join(r"(?:.*\n)*" if line.strip() == "..." else re.escape(line) + r"\n" for line in skeleton(shown))
    text = "".join(line + "\n" for line in skeleton(printed))
    assert re.fullmatch(pattern, text), f"README shows\n{shown}\nbut it prints\n{printed}"
    if figures and "..." not in shown:
        number = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]\d+)?")
        wanted, found = ([float(n) for n in number.findall(t)] for t in (shown, printed))
        assert found == pytest.approx(wanted, rel=0.02, abs=1e-3)
