"""What a run's time goes to, and that a network is traced once for all batches; how long things take is for tests/bench/."""

import contextlib
import json
import re
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
from PIL import Image

import caffe2tf
from caffe2tf import spent
from caffe2tf.classification import classifier as classifying
from tests.bench import __main__ as bench
from tests.bench import limits, nets, tables, texts
from tests.helpers import ROOT, inputs, layer, make, run

TEXT = inputs(data=(1, 3, 8, 8)) + layer("InnerProduct", "inner_product_param { num_output: 3 }", name="fc")


@pytest.fixture
def clocks(monkeypatch):
    """The two clocks, moved by hand: clocks(seconds)."""
    at = [100.0]
    monkeypatch.setattr(spent, "_now", lambda: (at[0], at[0] / 2))
    monkeypatch.setattr(spent, "_IMPORTED", (90.0, 45.0))
    monkeypatch.setattr(spent, "_age", lambda: 12.0 + at[0] - 100)
    yield lambda seconds: at.__setitem__(0, at[0] + seconds)
    spent.end()


def test_a_phase_within_a_phase_counts_for_itself(clocks):
    assert spent.rows() == []
    spent.begin()
    with spent.on("build"):
        clocks(1)
        with spent.on("TensorFlow"):
            clocks(8)
        clocks(2)
    clocks(0.5)
    with contextlib.suppress(KeyError), spent.on("build"):
        clocks(4)
        raise KeyError
    assert spent.rows() == [
        ("Python", 45.0, 45.0),  # at least what the processor did; a process younger than its work is no process
        ("imports", 10.0, 5.0),
        ("build", 7.0, 3.5),
        ("TensorFlow", 8.0, 4.0),
        ("rest", 0.5, 0.25),
        ("total", 70.5, 57.75),
    ]


def test_other_threads_do_not_count_apart(clocks):
    spent.begin()

    def work():
        with spent.on("elsewhere"):
            clocks(3)

    with spent.on("run"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert {name: seconds for name, seconds, _ in spent.rows()}["run"] == 3
    assert "elsewhere" not in [row[0] for row in spent.rows()]


def pictures(folder, count):
    (folder / "pictures").mkdir()
    for index in range(count):
        Image.new("RGB", (8, 8), (3 * index, 250 - 3 * index, 100)).save(folder / "pictures" / f"{index:02}.png")
    return [str(path) for path in sorted((folder / "pictures").iterdir())]


@pytest.mark.parametrize(
    ("command", "phases"),
    [
        (("classify", "net.caffemodel", "pictures", "--json"), ["load", "build", "run"]),
        (("verify", "net.caffemodel", "--against", "reference", "--json"), ["load", "build", "run"]),
        pytest.param(
            ("finetune", "net.caffemodel", "--layers", "fc", "--data", "kinds", "--epochs", "1", "--resize", "8"),
            ["load", "pictures", "build", "trace"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["classify", "verify", "finetune"],
)
def test_verbose_says_what_took_how_long(command, phases, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, TEXT + layer("Softmax", bottoms=["top"], tops=["p"], name="p"), {"fc": [(3, 192), (3,)]})
    for index, path in enumerate(pictures(tmp_path, 8)):
        kind = tmp_path / "kinds" / f"kind{index % 2}"
        kind.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(kind / f"{index}.png")
    loud = run(*command, "-v")
    if "--json" in command:
        json.loads(loud.stdout)  # nothing of it goes to stdout
    heads = list(re.finditer(r"^ +seconds +processor's\n", loud.stderr, re.M))
    assert len(heads) == (2 if "finetune" in command else 1)  # after the first batch, and at the end
    lines = [line.split() for line in loud.stderr[heads[0].end() :].splitlines()]
    table = {}
    for line in lines:
        table[line[0]] = float(line[1]), float(line[2])
        if line[0] == "total":
            break
    assert list(table)[:2] == ["Python", "imports"]
    assert set(phases) < set(table)
    assert list(table)[-2:] == ["rest", "total"]
    for clock in (0, 1):
        parts = [both[clock] for name, both in table.items() if name != "total"]
        assert sum(parts) == pytest.approx(table["total"][clock], abs=0.005 * len(parts) + 0.005)
    if "classify" in command:
        assert "processor's" not in run(*command).stderr


def test_all_batches_of_pictures_are_one_trace(tmp_path, monkeypatch):
    """The last, smaller batch too: compiled for another size it would take as long as all the others."""
    monkeypatch.chdir(tmp_path)
    make(tmp_path, TEXT, {"fc": [(3, 192), (3,)]})
    paths = pictures(tmp_path, 2 * classifying.BATCH + 3)
    classifier = classifying.load("net.caffemodel", "net.prototxt", many=True)
    called, functional = [], type(keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])._functional)
    call = functional.call
    monkeypatch.setattr(functional, "call", lambda self, x, *a, **k: called.append(x.shape) or call(self, x, *a, **k))
    seen = list(classifier(paths, 3))
    assert len(seen) == len(paths)
    assert [tuple(shape) for shape in called] == [(classifying.BATCH, 8, 8, 3)]
    alone = classifying.load("net.caffemodel", "net.prototxt")([paths[-1]], 3)
    np.testing.assert_allclose([p for *_, p in next(alone).top], [p for *_, p in seen[-1].top], rtol=1e-5)


def test_the_readme_has_the_marks_that_the_bench_writes_between():
    text = (ROOT / "docs" / "speed.md").read_text()
    once = bench.written(text, "| a table |")
    assert bench.written(once, "| a table |") == once
    assert once.startswith(text.partition(bench.BEGIN)[0])
    assert once.endswith(text.partition(bench.END)[2])
    assert once.count("| a table |") == 1
    with pytest.raises(ValueError, match="lacks"):
        bench.written(text.replace(bench.END, ""), "")


def test_tables_are_markdown():
    assert tables.markdown(("a", "b"), [("one", 2), ("x", 30.5)]) == "\n".join(
        ["| a   |    b |", "| --- | ---: |", "| one |    2 |", "| x   | 30.5 |"]
    )


def test_what_no_forward_pass_falls_short_of(tmp_path):
    """2 x 192 x 3 operations for a picture, 4 x (192 x 3 + 3) bytes once."""
    net = caffe2tf.load(*make(tmp_path, TEXT, {"fc": [(3, 192), (3,)]}))
    assert limits.least(net, 10, operations=1152.0, moved=1e9) == pytest.approx(10)
    assert limits.least(net, 10, operations=1e9, moved=2316.0) == pytest.approx(1)


@pytest.mark.parametrize("name", texts.TEXTS)
def test_the_networks_of_the_bench_are_those_of_keras(name, tmp_path):
    shapes = texts.network(name, str(tmp_path)).weight_shapes
    kernels = sorted(shape["kernel"] for shape in shapes.values() if "kernel" in shape)
    peer = getattr(keras.applications, name)(weights=None)
    assert kernels == sorted(tuple(layer.kernel.shape) for layer in peer.layers if hasattr(layer, "kernel"))


@pytest.mark.slow
def test_the_command_for_a_gpu_runs_here():
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.gpu", "--quick"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    assert [(row[0], row[1], row[-1]) for row in rows if row[-1] in ("PASS",) or row[-1].startswith("FAIL")] == [
        ("SqueezeNet", "float32", "PASS"),
        ("SqueezeNet", "mixed_float16", "PASS"),
    ]
    rates = {row[0]: row[2:] for row in rows if row[-1].endswith("%")}
    assert list(rates) == [*nets.NAMES, "ResNet-50, folded"]
    assert all(float(cell) > 0 for cells in rates.values() for cell in cells[:-1] if cell != "-")
    assert "Error" not in done.stdout
    assert "JPEG files a second" in done.stdout
