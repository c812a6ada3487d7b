"""Networks of thousands of layers: work in proportion to their layers, formats without a limit, chains that Keras can follow."""

import os
import sys
import threading

import numpy as np
import pytest

from caffe2tf import formats, loading
from caffe2tf.inspection.difference import diff
from caffe2tf.inspection.summary import inspect
from caffe2tf.keras_model.depth import deep
from tests.bench.growth import write


def chain(path, layers):
    write(path, layers, 4, relu=True)
    return loading.load(str(path))


def lines(work):
    """How many lines of caffe2tf's `work` runs: a loop within a loop shows, whatever the machine."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if "caffe2tf" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def everything(folder, layers):
    path, text = folder / f"{layers}.caffemodel", folder / f"{layers}.prototxt"
    write(path, layers, 4, relu=True)

    def work():
        net = loading.load(str(path))
        text.write_text(net.text())
        for suffix in ("npy", "npz", "h5", "safetensors", "caffemodel"):
            formats.save(net, str(folder / f"{layers}.{suffix}"))
            loading.load(str(text), str(folder / f"{layers}.{suffix}"))
        assert diff(net, net)["same"]
        inspect(str(path))

    return work


def test_work_grows_with_the_layers_and_not_with_their_square(tmp_path):
    lines(everything(tmp_path, 4))  # what is done once
    small, large = (lines(everything(tmp_path, layers)) for layers in (60, 240))
    assert 3 < large / small < 4.1


@pytest.mark.parametrize("suffix", ["npy", "npz", "h5", "safetensors", "caffemodel"])
def test_names_beyond_64_kilobytes(suffix, tmp_path):
    """HDF5 takes 64 kB for an attribute."""
    path = str(tmp_path / "net.caffemodel")
    write(path, 400, 4, relu=True, prefix="a name of 360 letters " * 16)
    net = loading.load(path)
    (tmp_path / "net.prototxt").write_text(net.text())
    formats.save(net, str(tmp_path / f"out.{suffix}"))
    again = loading.load(str(tmp_path / "net.prototxt"), str(tmp_path / f"out.{suffix}"))
    assert list(again.arrays) == list(net.arrays)
    assert all(np.array_equal(a, b) for a, b in zip(flat(net), flat(again), strict=True))


def flat(net):
    return [array for arrays in net.arrays.values() for array in arrays]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["out.keras", "out.tflite", "out" + os.sep])
def test_a_chain_longer_than_python_calls_deep(target, tmp_path):
    """Keras follows it by a function that calls itself once a layer."""
    net = chain(tmp_path / "net.caffemodel", 1200)
    assert sys.getrecursionlimit() < len(net.nodes)
    assert formats.save(net, f"{tmp_path}{os.sep}{target}") < 1e-6
    assert sys.getrecursionlimit() < len(net.nodes)


def test_the_limit_of_calls_goes_back_when_the_last_has_left():
    before, both = sys.getrecursionlimit(), threading.Barrier(2)
    seen = []

    def work(layers):
        with deep(layers):
            both.wait()
            seen.append(sys.getrecursionlimit())
            both.wait()

    threads = [threading.Thread(target=work, args=[layers]) for layers in (300, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [11000, 11000]
    assert sys.getrecursionlimit() == before
