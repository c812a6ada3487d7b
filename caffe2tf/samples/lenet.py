"""A seeded LeNet, as Caffe's MNIST example builds it: a training snapshot that does not tell its input size, and its text."""

from caffe2tf import bundled
from caffe2tf.caffe.caffe_pb2 import NetParameter
from caffe2tf.net import fillers
from caffe2tf.net.reading import from_files
from caffe2tf.samples import beside

SEED = 1998
BYTES = 1724320  # of the values


def write(path: str, force: bool = True) -> list[str]:
    """Writes the snapshot to `path` and the network text beside it; returns both paths."""
    text = bundled.lenet_text()
    return beside.write(path, snapshot(text).SerializeToString(), text, force)


def snapshot(text: str) -> NetParameter:
    """What training the network of the file `text` would save: data and loss around its layers, and weights drawn from its fillers."""
    net = fillers.start(from_files(text), SEED)
    made = NetParameter(name=bundled.random_name(net.name))
    data = made.layer.add(name="mnist", type="Data", top=["data", "label"])
    data.transform_param.scale = 1 / 256
    data.data_param.source, data.data_param.batch_size = "examples/mnist/mnist_train_lmdb", 64
    for proto in net.param.layer:
        if proto.type in ("Input", "Softmax"):
            continue  # the training net has data and loss instead
        layer = made.layer.add()
        layer.CopyFrom(proto)
        for array in net.arrays.get(proto.name, ()):
            blob = layer.blobs.add()
            blob.shape.dim.extend(array.shape)
            blob.data.extend(array.ravel().tolist())
    made.layer.add(name="loss", type="SoftmaxWithLoss", bottom=["ip2", "label"], top=["loss"])
    return made
