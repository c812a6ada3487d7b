"""`caffe2tf demo`: everything that the tool promises, in a temporary folder, with how long each step took."""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from caffe2tf import bundled, formats, loading
from caffe2tf.files import replacing as files
from caffe2tf.samples import networks as sample
from caffe2tf.verification.compare import Report


def run(
    say: Callable[[str], object],
    show: Callable[[Report], object],
    hushed: Callable[[], AbstractContextManager[object]],
    device: str = "auto",
) -> bool:
    """Samples, converts and verifies; returns whether the verification passed. `say` prints a line, `show` a Report,
    `hushed` makes a context in which TensorFlow starts silently."""
    start = time.perf_counter()

    def step(words: str) -> None:
        say(f"[{time.perf_counter() - start:5.1f} s] {words}")

    with tempfile.TemporaryDirectory(prefix="caffe2tf-demo-") as folder:
        model, weights = (os.path.join(folder, name) for name in ("bvlc_alexnet.caffemodel", "bvlc_alexnet.npz"))
        step("writing the full-size AlexNet with seeded weights, encoded as in 2013: V1 layers, a training snapshot")
        sample.write(model)
        step(f"  {files.size(model) / 1e6:.1f} MB; reading it, without Caffe and without its network text")
        net = loading.load(None, model)
        parameters = sum(array.size for arrays in net.arrays.values() for array in arrays)
        step(f"  {len(net.nodes)} layers, {parameters:,} parameters; converting to Keras's layout as .npz")
        formats.save(net, weights)
        step(
            f"  {files.size(weights) / 1e6:.1f} MB; running it in Keras on six images for which Caffe 1.0's own results are known"
        )
        converted = loading.load(bundled.alexnet_text(), weights)
        with hushed():
            from caffe2tf.verification.verify import verify

            report = verify(converted, os.path.join(bundled.home(), "alexnet"), device=device)
        say("")
        show(report)
        say("")
        step("done; the folder is removed")
        return report.passed
