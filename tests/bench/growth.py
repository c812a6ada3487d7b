"""How converting grows with a network: seconds and peak memory of whole processes, with its layers and with its bytes.

Run as `python -m tests.bench.growth [--layers 1000,5000,20000] [--megabytes 10,100,1000,3000]`; the largest default takes 7 GB of
disk. Networks of many layers are chains of InnerProduct and ReLU, 4 wide; large ones are chains of InnerProduct of 51 MB each, whose
text and weights stand in one file, written without ever being in memory. Caffe itself reads no file above 2 GB (protobuf's limit),
caffe2tf does.
"""

import argparse
import os
import tempfile

import numpy as np

from caffe2tf.caffe.caffe_pb2 import NetParameter
from tests.bench.convert import PYTHON, measure

WEIGHTS = ("npy", "npz", "h5", "safetensors", "caffemodel")
WIDE = 3584  # of a layer of 51 MB


def write(path, count, wide, relu, prefix="l"):
    """A snapshot of `count` layers, named by `prefix` and a number: one message after another, which protobuf reads as one."""
    rng, last = np.random.default_rng(0), "data"
    with open(path, "wb") as file:
        head = NetParameter(name="chain", input=["data"])
        head.input_shape.add().dim.extend([1, wide])
        file.write(head.SerializeToString())
        for index in range(count):
            part = NetParameter()
            layer = part.layer.add(name=f"{prefix}{index}", bottom=[last], top=[last])
            if relu and index % 2:
                layer.type = "ReLU"
            else:
                layer.type, layer.top[0], last = "InnerProduct", layer.name, layer.name
                layer.inner_product_param.num_output, layer.inner_product_param.bias_term = wide, False
                blob = layer.blobs.add()
                blob.shape.dim.extend([wide, wide])
                blob.data.extend((rng.standard_normal(wide * wide, np.float32) / wide**0.5).data)
            file.write(part.SerializeToString())


def table(title, sizes, make, unit):
    print(f"{title:24s}" + "".join(f"{name:>20s}" for name in ("cp", *WEIGHTS, "inspect --diff")))
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            model = os.path.join(folder, "net.caffemodel")
            # In a process of its own: a child's peak memory counts from that of the process that starts it.
            if child := os.fork():
                os.waitpid(child, 0)
            else:
                make(model, size)
                os._exit(0)
            caffe2tf = [PYTHON, "-m", "caffe2tf"]
            commands = {"cp": ["cp", model, os.path.join(folder, "copy.caffemodel")]}
            for suffix in WEIGHTS:
                commands[suffix] = [
                    *caffe2tf,
                    "convert",
                    "-q",
                    "-f",
                    model,
                    "-o",
                    os.path.join(folder, f"out.{suffix}"),
                ]
            commands["diff"] = [*caffe2tf, "inspect", model, "--diff", os.path.join(folder, "copy.caffemodel")]
            row = ""
            for name, command in commands.items():
                seconds, peak = measure(command)
                row += f"{seconds:>9.2f} s {peak:5.0f} MiB"
                if name not in ("cp", "diff"):
                    os.remove(os.path.join(folder, f"out.{name}"))
            print(f"{f'{size:,} {unit}':24s}{row}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", default="1000,5000,20000")
    parser.add_argument("--megabytes", default="10,100,1000,3000")
    given = parser.parse_args()
    numbers = {name: [int(n) for n in text.split(",") if n] for name, text in vars(given).items()}
    table("layers", numbers["layers"], lambda path, n: write(path, n, 4, True), "layers")
    blob = WIDE * WIDE * 4 / 1e6

    def large(path, megabytes):
        write(
            path,
            max(1, round(megabytes / blob)),
            WIDE if megabytes >= blob else int((megabytes * 250_000) ** 0.5),
            False,
        )

    table("bytes", numbers["megabytes"], large, "MB")


if __name__ == "__main__":
    main()
