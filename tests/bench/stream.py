"""The memory of `caffe2tf classify` of a folder, as a whole process: 100 pictures, 10,000, and a million names in one folder.

Run as `python -m tests.bench.stream [PICTURES]`. JPEGs of 500 x 375 are linked as often as needed; the network is the SqueezeNet
that comes with the package, for pictures of 64 x 64, since what is measured is what grows. It prints the largest resident set
of each process and how soon the first row was there.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import caffe2tf
from tests.bench.classify import photographs

NAMES = r"""
import re, sys, time
from caffe2tf.images import decode
def peak():
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
start, before = time.perf_counter(), peak()
count = sum(1 for _ in decode.each_image([sys.argv[1]]))
after = peak()
print(f"{count:>9,} names in one folder  {(after - before) / 1000:7.1f} MB more  {time.perf_counter() - start:6.1f} s")
"""


def seen(model: str, folder: Path, out: Path) -> tuple[float, float, float]:
    """(peak in MB, seconds until the first row, seconds) of a classify of `folder` as a process of its own."""
    sizes = ["--input-shape", "1,3,64,64", "--resize", "64", "--crop", "none"]
    command = [sys.executable, "-m", "caffe2tf", "classify", model, str(folder), *sizes, "--out", str(out), "-q"]
    start, first = time.perf_counter(), 0.0
    process = subprocess.Popen(command)
    while not first and process.poll() is None:
        first = time.perf_counter() - start if out.exists() and out.stat().st_size > 100 else 0.0
        time.sleep(0.02)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss / 1024, first, time.perf_counter() - start


def main(count: int = 10_000) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "made").mkdir()
        model = str(folder / "squeezenet.caffemodel")
        caffe2tf.sample("squeezenet", model)
        made = photographs(folder / "made", 100)
        for size in (100, count):
            (folder / str(size)).mkdir()
            for index in range(size):
                os.link(made[index % 100], folder / str(size) / f"{index:07}.jpg")
        peaks = []
        for size in (100, count):
            peak, first, whole = seen(model, folder / str(size), folder / f"{size}.csv")
            rows = (folder / f"{size}.csv").read_bytes().count(b"\n") - 1
            print(f"{size:>9,} pictures  peak {peak:7.1f} MB  first row {first:5.1f} s  {whole:7.1f} s  {rows:,} rows")
            peaks.append(peak)
        print(f"difference {peaks[1] - peaks[0]:+.1f} MB")
        (folder / "names").mkdir()
        for index in range(1_000_000):
            os.close(os.open(folder / "names" / f"{index:07}.jpg", os.O_CREAT))
        subprocess.run([sys.executable, "-c", NAMES, str(folder / "names")], check=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
