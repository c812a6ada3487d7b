"""The data that comes with the package, or with one that it needs: golden sets, the script that records them, network texts,
the names of ImageNet's classes, photographs."""

import importlib.util
import os

from caffe2tf.errors import Caffe2TFError


def home() -> str:
    """The folder that holds `alexnet/`, `bvlc_alexnet/` and `squeezenet/`: in the installed package, or in a checkout."""
    package = os.path.dirname(os.path.abspath(__file__))
    for folder in (os.path.join(package, "data"), os.path.join(os.path.dirname(package), "golden")):
        if os.path.isdir(os.path.join(folder, "alexnet")):
            return folder
    raise Caffe2TFError("the installed package lacks its golden sets; install it again")


def alexnet_text() -> str:
    """The path of AlexNet's network text, which comes with the package."""
    return os.path.join(home(), "alexnet", "deploy.prototxt")


def squeezenet_text() -> str:
    """The path of SqueezeNet's."""
    return os.path.join(home(), "squeezenet", "net.prototxt")


def lenet_text() -> str:
    """The path of LeNet's."""
    return os.path.join(home(), "lenet.prototxt")


# {picture: (package that it comes with, its folder there)}
PHOTOGRAPHS = {
    "china.jpg": ("sklearn", "datasets/images"),
    "flower.jpg": ("sklearn", "datasets/images"),
    "grace_hopper.jpg": ("matplotlib", "mpl-data/sample_data"),
}


def photograph(name: str) -> str:
    """Where the picture `name` of PHOTOGRAPHS lies in the package that it comes with; it may be missing there."""
    package, folder = PHOTOGRAPHS[name]
    spec = importlib.util.find_spec(package)  # importing it would take a second
    return os.path.join(os.path.dirname(str(spec.origin)) if spec else package, *folder.split("/"), name)


# What the samples with random weights are called: in their lines, and in the names of their nets.
RANDOM = "random weights, for trying the commands; knows no pictures"
_RANDOM_NAME = "with random weights"


def random_name(name: str) -> str:
    """The name of the net `name` with random weights."""
    return f"{name} {_RANDOM_NAME}"


def is_random(name: str) -> bool:
    """Whether the net `name` is one with random weights."""
    return name.endswith(_RANDOM_NAME)


def classes(column: int = 2) -> list[str]:
    """The names of ImageNet's 1000 classes, in Caffe's order; of column 1 their WordNet ids."""
    with open(os.path.join(home(), "imagenet_classes.tsv"), encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t")[column] for line in file][1:]


def record_script() -> str:
    """The script that records a golden set where Caffe is, as text."""
    with open(os.path.join(home(), "record.py"), encoding="utf-8") as file:
        return file.read()
