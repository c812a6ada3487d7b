"""Converting AlexNet (244 MB), whole processes: time against `cp` and OpenCV's loading, and peak memory.

Run as `python tests/bench/convert.py [REPEATS]`; it needs `pip install '.[test]'` and 1 GB of disk. The commands run in
turn, so that a drift of the machine's speed meets all of them; the ratios are those of the medians.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from caffe2tf import bundled

PYTHON = sys.executable
CV2 = "import cv2, sys; cv2.dnn.readNetFromCaffe(*sys.argv[1:])"


def measure(command):
    """(seconds, peak MiB) of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command}: exit status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main(repeats=7):
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, "bvlc_alexnet.caffemodel")
        # In a process of its own: a child's peak memory counts from that of the process that starts it.
        subprocess.run([PYTHON, "-m", "caffe2tf", "sample", "-q", model], check=True)

        def convert(out):
            return [PYTHON, "-m", "caffe2tf", "convert", model, "-f", "-q", "-o", os.path.join(folder, out)]

        commands = {
            "cp": ["cp", model, os.path.join(folder, "copy")],
            "python -c pass": [PYTHON, "-c", "pass"],
            "python -c 'import numpy'": [PYTHON, "-c", "import numpy"],
            "convert to .npy": convert("x.npy"),
            "convert to .h5": convert("x.h5"),
            "caffe2tf --help": [PYTHON, "-m", "caffe2tf", "--help"],
            "caffe2tf inspect": [PYTHON, "-m", "caffe2tf", "inspect", model],
        }
        found = {name: [] for name in commands}
        for turn in range(repeats + 1):
            for name, command in commands.items():
                result = measure(command)
                if turn:  # the first warms the caches
                    found[name].append(result)
        # OpenCV's loading comes after the others: the 400 MB that it frees are cleared at the next command's expense.
        peer = "cv2.dnn.readNetFromCaffe"
        found[peer] = [measure([PYTHON, "-c", CV2, bundled.alexnet_text(), model]) for _ in range(repeats + 1)][1:]
        checkpoint = measure(convert("x.ckpt"))

    time_of = {name: statistics.median(seconds for seconds, _ in runs) for name, runs in found.items()}
    peak_of = {name: max(peak for _, peak in runs) for name, runs in found.items()}
    for name in found:
        print(f"{name:26} {time_of[name]:7.3f} s {peak_of[name]:7.0f} MiB")
    print(f"{'convert to .ckpt':26} {checkpoint[0]:7.3f} s {checkpoint[1]:7.0f} MiB  (one run)")
    print()
    floor = time_of["cp"] + time_of["python -c 'import numpy'"]
    for name in ("convert to .npy", "convert to .h5"):
        print(f"{name:16} / (cp + python with numpy)   {time_of[name] / floor:5.2f}")
        print(f"{name:16} / cv2.dnn.readNetFromCaffe   {time_of[name] / time_of['cv2.dnn.readNetFromCaffe']:5.2f}")
    for name in ("caffe2tf --help", "caffe2tf inspect"):
        print(f"{name:16} / python -c pass             {time_of[name] / time_of['python -c pass']:5.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
