"""Records a golden set of your own network with Caffe, for `caffe2tf verify --golden FOLDER`.

Run it where Caffe is; it needs pycaffe and NumPy alone, Python 2.7 or 3, and nothing of caffe2tf:

    python record.py deploy.prototxt net.caffemodel FOLDER [IMAGE.npy]

Where Docker is, the image that BVLC published has what it needs:

    docker run --rm -v "$PWD":/net -w /net bvlc/caffe:cpu python record.py deploy.prototxt net.caffemodel FOLDER

Then, where caffe2tf is: caffe2tf verify deploy.prototxt net.caffemodel --golden FOLDER

IMAGE.npy holds uint8 images (N, H, W, 3) in BGR order of the network's input size; without it the input is random (seed
0). FOLDER then holds net.prototxt, net.caffemodel and blobs.npz: every blob in Caffe's axis order, the last value written
to it; `in:NAME` is an input that a layer overwrites in place, before that.
"""

from __future__ import print_function

import os
import shutil
import sys

import numpy as np

VERSION = 1  # of the format
MEAN = (104, 117, 123)


def inputs_of(net, images):
    """{input blob: float32 array} to run the network on."""
    random = np.random.RandomState(0)
    given = {}
    for name in net.inputs:
        shape = net.blobs[name].data.shape
        if images is not None and len(shape) == 4 and shape[1] == 3:
            if images.dtype != np.uint8 or images.shape[1:] != (shape[2], shape[3], 3):
                sys.exit(
                    "images of %s %s; takes uint8 (N, %d, %d, 3)" % (images.dtype, images.shape, shape[2], shape[3])
                )
            given[name] = (images.astype(np.float32) - np.float32(MEAN)).transpose(0, 3, 1, 2)
        else:
            given[name] = random.randn(*shape).astype(np.float32)
    return given


def record(net, given):
    """{key: array} of all blobs after one forward pass."""
    for name, array in given.items():
        net.blobs[name].reshape(*array.shape)
    net.reshape()
    for name, array in given.items():
        net.blobs[name].data[...] = array
    net.forward()
    arrays = {"version": np.array(VERSION)}
    for name, blob in net.blobs.items():
        if "_split_" in name:  # copies that Caffe makes by itself
            continue
        arrays[name] = np.array(blob.data, np.float32)
        if name in given and not np.array_equal(arrays[name], given[name]):
            arrays["in:" + name] = given[name]
    return arrays


def main(prototxt, caffemodel, folder, images=None):
    import caffe

    if os.path.exists(folder):
        sys.exit("%s exists already; name a new folder" % folder)
    caffe.set_mode_cpu()
    net = caffe.Net(prototxt, caffemodel, caffe.TEST)
    arrays = record(net, inputs_of(net, None if images is None else np.lib.format.open_memmap(images, "r")))
    os.makedirs(folder)
    shutil.copy(prototxt, os.path.join(folder, "net.prototxt"))
    shutil.copy(caffemodel, os.path.join(folder, "net.caffemodel"))
    np.savez_compressed(os.path.join(folder, "blobs.npz"), **arrays)
    print("%s: %d blobs" % (folder, len(arrays) - 1))


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
