"""Runs in real Caffe's own Python: for each folder named on stdin, every blob of its net goes to its blobs.npz.

A failed CHECK ends the process, as Caffe does; `real` starts the next.
"""

import os
import sys

import caffe
import numpy as np

caffe.set_mode_cpu()
for line in sys.stdin:
    folder = line.strip()
    net = caffe.Net(os.path.join(folder, "deploy.prototxt"), os.path.join(folder, "net.caffemodel"), caffe.TEST)
    given = dict(np.load(os.path.join(folder, "inputs.npz")))
    other = any(tuple(net.blobs[name].shape) != array.shape for name, array in given.items())
    for name, array in given.items():
        net.blobs[name].reshape(*array.shape)
        net.blobs[name].data[...] = array
    if other:
        net.reshape()
    net.forward()
    np.savez(os.path.join(folder, "blobs.npz"), **{name: blob.data.copy() for name, blob in net.blobs.items()})
    print(folder, flush=True)
