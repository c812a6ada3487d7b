"""Forward pass of AlexNet on the CPU against OpenCV's dnn, in one process, batches of 1, 10 and 50 in turn.

Run as `python tests/bench/forward.py [REPEATS]`; it needs `pip install '.[test]'`.
"""

import os
import statistics
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
import tensorflow as tf

from caffe2tf import bundled, loading
from caffe2tf.keras_model.model import to_keras
from caffe2tf.samples import networks as sample


def main(repeats=9):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bvlc_alexnet.caffemodel")
        sample.write(path)
        model = to_keras(loading.load(bundled.alexnet_text(), path))
        peer = cv2.dnn.readNetFromCaffe(bundled.alexnet_text(), path)
    compiled = tf.function(lambda x: model(x, training=False))
    images = np.random.RandomState(0).randint(-120, 130, (50, 3, 227, 227)).astype(np.float32)
    print(f"{'batch':>5} {'caffe2tf':>12} {'OpenCV ' + cv2.__version__:>15} {'times faster':>13} {'difference':>11}")
    for batch in (1, 10, 50):
        ours = tf.constant(np.ascontiguousarray(images[:batch].transpose(0, 2, 3, 1)))
        theirs = np.ascontiguousarray(images[:batch])
        seconds = {"ours": [], "peer": []}
        for turn in range(repeats + 2):
            start = time.perf_counter()
            found = compiled(ours).numpy()
            middle = time.perf_counter()
            peer.setInput(theirs)
            expected = peer.forward()
            end = time.perf_counter()
            if turn > 1:  # the first two compile and warm up
                seconds["ours"].append(middle - start)
                seconds["peer"].append(end - middle)
        a, b = (1000 * statistics.median(runs) / batch for runs in seconds.values())
        print(f"{batch:5} {a:9.2f} ms {b:12.2f} ms {b / a:13.2f} {abs(found - expected).max():11.2g}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
