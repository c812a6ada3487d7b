"""Where the tests find their data, how they make networks of their own, and when two results are the same."""

import functools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
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


# ------------------------------------------------------------------------------------------------ what the pages show

README = (ROOT / "README.md").read_text(encoding="utf-8")


def pages() -> dict[str, str]:
    """{path from the root: text} of the README and the guides, which a reader may follow each by itself."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


BLOCK = re.compile(r"```sh\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)


def commands(block: str) -> list[str]:
    """The commands of ours in a block `sh`, one after `pip install . &&` among them."""
    lines = re.sub(r"\\\n\s*", "", block).splitlines()
    return [
        line.removeprefix("pip install . && ") for line in lines if re.match(r"(pip install \. && )?caffe2tf ", line)
    ]


def blocks(text: str) -> list[tuple[str, str | None]]:
    """[(command, what `text` says it prints or None)] of the fenced blocks `sh`, which run anywhere. What the last command
    of a block prints is the `text` block right after it."""
    found: list[tuple[str, str | None]] = []
    for block, shown in BLOCK.findall(text):
        lines = commands(block)
        found += [(line, None) for line in lines[:-1]] + [(line, shown or None) for line in lines[-1:]]
    return found


_FIGURE = re.compile(r"[0-9.e+x-]*[0-9][0-9.e+x-]*")
RANGE = re.compile(r"([\d.]+?)\.\.([\d.]+)")
_TIME = re.compile(r" (s|ms|min|h)\b")
_LASTING = re.compile(r"(\d+ h )?\d+ min( \d+ s)?|\d+ h \d+ min")  # 59 s may be 1 min 01 s
_ONE = re.compile(f"{_LASTING.pattern}|{_FIGURE.pattern}")


def skeleton(line: str) -> str:
    """`line` without its figures and the widths of its columns: times, errors and places differ from machine to machine."""
    line = _LASTING.sub("1 s", line)
    return _FIGURE.sub("#", re.sub(r" +", " ", line).replace("[ ", "[")).strip()


def aligned(shown: str, printed: str) -> list[tuple[str, str | None]] | None:
    """[(line of `shown`, the line of `printed` that is like it; None for a `...`, which stands for any lines)]; None where
    `printed` is not like `shown`."""
    lines, found = shown.splitlines(), printed.splitlines()
    parts = [r"(?:.*\n)*?" if line.strip() == "..." else f"({re.escape(skeleton(line))}\n)" for line in lines]
    text = "".join(skeleton(line) + "\n" for line in found)
    match = re.fullmatch("".join(parts), text)
    if match is None:
        return None
    starts = iter(match.start(group) for group in range(1, len(match.groups()) + 1))
    return [(line, None if line.strip() == "..." else found[text.count("\n", 0, next(starts))]) for line in lines]


def figures(line: str) -> list[tuple[str, bool]]:
    """[(figure, whether it is a time)] of a line; a time of hours and minutes is one."""
    return [(one[0], " " in one[0] or bool(_TIME.match(line, one.end()))) for one in _ONE.finditer(line)]


def refigured(line: str, made: Iterable[str]) -> str:
    """`line` with `made` in place of its figures, one for each."""
    rest = iter(made)
    return _ONE.sub(lambda _: next(rest), line)


def agrees(shown: str, printed: str) -> bool:
    """Whether a figure is the one that is shown. A range `0.93..0.96` stands where machines differ by more than rounding: the
    figure lies within. Counts are equal; others within two in a hundred; errors (`2.6e-06`) by their size, within ten times;
    where the largest error is (`1x61x6x0`) depends on the machine."""
    bounds = RANGE.fullmatch(shown)
    if bounds:
        return float(bounds[1]) <= float(printed) <= float(bounds[2])
    if shown == printed or "x" in shown:
        return True
    if not all(map(re.compile(r"\d+(\.\d*)?(e[+-]\d+)?").fullmatch, (shown, printed))):
        return False
    if shown.isdigit() and printed.isdigit():
        return int(shown) == int(printed)
    one, other = float(shown), float(printed)
    if "e-" in shown or "e-" in printed:
        return max(one, other) <= 10 * min(one, other) or max(one, other) < 1e-6
    return other == pytest.approx(one, rel=0.02, abs=1e-3)


def differing(shown: str, printed: str) -> list[str]:
    """What of `printed` is not what `shown`, a line of a page, says: figures, times aside."""
    pairs = zip(figures(shown), figures(printed), strict=True)
    return [f"{one} is {other}" for (one, _), (other, time) in pairs if not time and not agrees(one, other)]


def assert_prints(shown: str, printed: str) -> None:
    """That `printed` has the lines of `shown`, in which `...` stands for any lines, and its figures."""
    lines = aligned(shown, printed)
    assert lines is not None, f"the page shows\n{shown}\nbut it prints\n{printed}"
    for line, found in lines:
        assert found is None or not differing(line, found), f"{line}\n{found}\n{differing(line, found)}"
