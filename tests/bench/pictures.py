"""Training on many pictures: peak memory of few and of many, the first epoch beside decoding and forward alone, the start of a
second run, and images per second with all layers beside a plain `keras.Model.fit`.

Run as `python -m tests.bench.pictures [--many 25000] [--few 2500] [--fit 640]`; the pictures, of 500 x 375, are made by encoding
parts of the photographs that come with scikit-learn anew, 37 kB each, and the features of 25,000 take 8.7 GB of disk. The network is
the SqueezeNet that comes with the package.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers import ROOT

PYTHON = [sys.executable, "-u"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}

# Decoding and forward alone, from the process's start to its end.
ALONE = """
import sys, numpy as np
from caffe2tf import loading
from caffe2tf.finetuning import data, features, plan, rows
from caffe2tf.images import preprocess
net = loading.load(sys.argv[1])
how, _ = preprocess.of(net)
work = plan.make(net, "conv_final", ["conv_final"])
images = rows.Decoded(data.read(sys.argv[2]).sources, how)
wanted = features.groups(np.ones(images.shape[0], bool))
for _ in features.values(work.base, work.frontier, images, how, wanted): pass
"""

# What a user of Keras writes.
PLAIN = """
import sys, time, keras, numpy as np, tensorflow as tf
model = keras.models.load_model(sys.argv[1])
model = keras.Model(model.inputs, keras.layers.Softmax()(keras.layers.Flatten()(model.outputs[0])))
data = keras.utils.image_dataset_from_directory(sys.argv[2], batch_size=32, image_size=(256, 256), verbose=False)
mean = np.float32([104, 117, 123])
data = data.map(lambda x, y: (x[:, 14:241, 14:241, ::-1] - mean, y), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
model.compile(keras.optimizers.SGD(1e-6, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
class Times(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None): self.begun = time.time()
    def on_epoch_end(self, epoch, logs=None): print("seconds", time.time() - self.begun, flush=True)
model.fit(data, epochs=3, verbose=0, callbacks=[Times()])
"""


def make(folder, count):
    """`count` pictures in a folder for each of two classes."""
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(image) for image in load_sample_images().images]  # 640 x 427
    for number in range(count):
        random = np.random.default_rng(number)
        kind = number % len(photographs)
        width, height = photographs[kind].size
        share = random.uniform(0.6, 1)
        w, h = int(width * share), int(height * share)
        left, top = int(random.integers(width - w + 1)), int(random.integers(height - h + 1))
        path = Path(folder) / f"class{kind}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photographs[kind].resize((500, 375), box=(left, top, left + w, top + h)).save(path, quality=90)


# Between this process and the run stands a small one: a child's peak counts from that of the process that starts it.
MEASURED = (
    "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
    "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, flush=True); sys.exit(done.returncode)"
)


def finetune(*options):
    """(seconds until a line that starts so, peak MB) of a run: {"trains": ..., "epoch   1": ..., "epoch   2": ...}."""
    command = [*PYTHON, "-c", MEASURED, *PYTHON, "-m", "caffe2tf", "finetune", *map(str, options)]
    begun, found, lines = time.monotonic(), {}, []
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        lines.append(line)
        found.setdefault(line.split("  ")[0] if not line.startswith("epoch") else line[:9], time.monotonic() - begun)
        if line.startswith("trains"):
            found["trains"] = time.monotonic() - begun
        if line.startswith("peak"):
            found["peak"] = int(line.split()[1]) / 1e3
    assert process.wait() == 0, "".join(lines)
    return found


def spent(*command):
    begun = time.monotonic()
    done = subprocess.run(list(map(str, command)), env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True)
    return time.monotonic() - begun, done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--many", type=int, default=25_000, help="pictures for a head; 0 leaves heads out")
    parser.add_argument("--few", type=int, default=2_500)
    parser.add_argument("--fit", type=int, default=640, help="pictures with all layers; 0 leaves it out")
    parser.add_argument("--folder", help="where pictures are made, and left")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.folder or temporary)
        caffe2tf = [*PYTHON, "-m", "caffe2tf"]
        net = f"{temporary}/net.caffemodel"
        subprocess.run([*caffe2tf, "sample", "squeezenet", net, "-q"], env=ENVIRONMENT, check=True)
        peaks = {}
        for count in sorted({given.few, given.many}) if given.many else ():
            pictures = folder / f"{count}"
            if not pictures.exists():
                make(pictures, count)
            head = [net, "--layers", "conv_final", "--epochs", "1", "--data", pictures, "--cache"]
            for name, cache in (("by default", None), ("on the disk", f"disk:{temporary}/kept{count}")):
                options = [
                    *head[:-1],
                    *(["--cache", cache] if cache else []),
                    "--out",
                    f"{temporary}/{count}-{bool(cache)}",
                ]
                found = finetune(*options)
                peaks[count, name] = found["peak"]
                start = f"first epoch after {found['epoch   1']:.1f} s, peak {found['peak']:.0f} MB"
                print(f"{count} pictures, head alone, features {name}: {start}", flush=True)
            again = finetune(
                *head, f"disk:{temporary}/kept{count}", "--lr", "1e-5", "--out", f"{temporary}/{count}-again"
            )
            print(f"  second run on them, another rate: trains after {again['trains']:.1f} s")
            alone, _ = spent(*PYTHON, "-c", ALONE, net, pictures)
            print(
                f"  decoding and forward alone {alone:.1f} s: first epoch {found['epoch   1'] / alone:.2f} times",
                flush=True,
            )
        for name in ("by default", "on the disk") if given.many else ():
            more = peaks[max(given.few, given.many), name] - peaks[min(given.few, given.many), name]
            print(f"peak of {given.many} pictures above that of {given.few}, features {name}: {more:+.0f} MB")
        if given.fit:
            pictures = folder / f"fit{given.fit}"
            if not pictures.exists():
                make(pictures, given.fit)
            keras = f"{temporary}/net.keras"
            subprocess.run([*caffe2tf, "convert", net, "-o", keras, "-q", "-f"], env=ENVIRONMENT, check=True)
            _, text = spent(*PYTHON, "-c", PLAIN, keras, pictures)
            plain = min(float(line.split()[1]) for line in text.splitlines()[1:] if line.startswith("seconds"))
            for cache in ("memory", "none"):
                options = ["--layers", "all", "--lr", "1e-6", "--epochs", "3", "--val", folder / f"{given.few}"]
                options[-1] = pictures.parent / "val"
                if not options[-1].exists():
                    make(options[-1], 2)
                found = finetune(
                    net, *options, "--data", pictures, "--cache", cache, "--out", f"{temporary}/all-{cache}"
                )  # fmt: skip
                ours = min(found["epoch   2"] - found["epoch   1"], found["epoch   3"] - found["epoch   2"])
                print(
                    f"all layers of {given.fit} pictures, cache {cache}: {given.fit / ours:.1f} a second, plain fit "
                    f"{given.fit / plain:.1f}: {plain / ours:.2f} times",
                    flush=True,
                )


if __name__ == "__main__":
    main()
