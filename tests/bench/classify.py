"""`caffe2tf classify` of 1,000 JPEGs of 500 x 375 against decoding and forward pass alone.

Run as `python tests/bench/classify.py [IMAGES] [MODEL.caffemodel]`; without a model AlexNet with seeded weights is taken.
The JPEGs are made of seeded noise, as smooth as photographs. It prints what decoding and the forward pass take one
after the other in this process, what classify takes for both, here and as a whole process, and what the start-up of
one image takes against the import of TensorFlow.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

from caffe2tf.classification import classifier as classify
from caffe2tf.samples import networks as sample

PYTHON = sys.executable


def photographs(folder, count):
    """Paths of `count` JPEGs, 500 x 375, each another mixture of blurred noise."""
    random, paths = np.random.RandomState(0), []
    for index in range(count):
        coarse, fine = (
            Image.fromarray(random.randint(0, 256, (h, h * 4 // 3, 3), np.uint8)).resize(
                (500, 375), Image.Resampling.BICUBIC
            )
            for h in (9, 90)
        )
        paths.append(os.path.join(folder, f"{index:04}.jpg"))
        Image.blend(coarse, fine, 0.3).save(paths[-1], quality=90)
    return paths


def timed(work):
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def process(*args):
    return timed(lambda: subprocess.run([PYTHON, *args], check=True, capture_output=True))[1]


def main(count=1000, model=None):
    with tempfile.TemporaryDirectory() as folder:
        if model is None:
            model = os.path.join(folder, "bvlc_alexnet.caffemodel")
            sample.write(model)
        pictures = os.path.join(folder, "pictures")
        os.mkdir(pictures)
        paths = photographs(pictures, count)

        classifier, loading = timed(lambda: classify.load(model, many=True))
        list(classifier(paths[:32]))  # compiles
        loaded, decoding = timed(lambda: [classifier._load(path, None)[1] for path in paths])
        batches = [np.concatenate(loaded[i : i + classifier.batch]) for i in range(0, count, classifier.batch)]
        _, forward = timed(lambda: [classifier.run(batch) for batch in batches])
        _, both = timed(lambda: list(classifier(paths)))
        whole = process("-m", "caffe2tf", "classify", model, pictures, "--csv")
        imports, ones = [], []
        for _ in range(5):
            imports.append(process("-c", "import tensorflow"))
            ones.append(process("-m", "caffe2tf", "classify", model, paths[0]))

    alone = decoding + forward
    for name, seconds in {
        "loading the model": loading,
        "decoding, resizing alone": decoding,
        "forward pass alone": forward,
        "both, one after the other": alone,
        "classify, same process": both,
        "classify, whole process": whole,
    }.items():
        print(f"{name:26} {seconds:7.2f} s {1000 * seconds / count:7.2f} ms an image")
    print(f"{'import tensorflow':26} {statistics.median(imports):7.2f} s")
    print(f"{'classify of one image':26} {statistics.median(ones):7.2f} s")
    print()
    print(f"speed of classify / decoding and forward, same process   {alone / both:5.2f}")
    print(f"speed of classify / decoding and forward, whole process  {alone / whole:5.2f}")
    print(
        f"classify of one image / import tensorflow                {statistics.median(ones) / statistics.median(imports):5.2f}"
    )


if __name__ == "__main__":
    main(*(int(arg) if arg.isdecimal() else arg for arg in sys.argv[1:]))
