"""The seeded AlexNet is the file that its digests say, in the encoding of the published one."""

import hashlib
import json

from caffe2tf import bundled, loading
from caffe2tf.caffe import read
from caffe2tf.samples import networks as sample
from tests.helpers import GOLDEN


def test_digests(alexnet):
    expected = json.loads((GOLDEN / "alexnet" / "expected.json").read_text())["weights_sha256"]
    net = loading.load(None, str(alexnet))
    found = {
        name: [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays] for name, arrays in net.arrays.items()
    }
    assert found == expected


def test_encoding_is_that_of_the_published_file(alexnet):
    source = read.read_caffemodel(alexnet)
    assert source.encoding == "V1"
    assert [layer.type for layer in source.net.layers][:2] == [5, 4]  # DATA, CONVOLUTION
    assert source.net.layers[-1].name == "loss"
    assert all(blob.legacy for blobs in source.blobs.values() for blob in blobs)
    assert source.blobs["fc8"][0].shape == (1, 1, 1000, 4096)
    assert sum(part.nbytes for blobs in source.blobs.values() for b in blobs for part in b.parts) == sample.BYTES


def test_the_network_is_the_deploy_text(alexnet):
    alone, text = loading.load(None, str(alexnet)), loading.load(bundled.alexnet_text())
    assert [(n.layer.name, n.layer.type, n.bottoms) for n in alone.nodes] == [
        (n.layer.name, n.layer.type, n.bottoms) for n in text.nodes
    ]
    assert alone.inputs == {"data": (1, 3, 227, 227)}
