"""The data that comes with the package: golden sets, the script that records them, AlexNet's network text, the names of ImageNet's classes."""

import os

from caffe2tf.errors import Caffe2TFError


def home() -> str:
    """The folder that holds `alexnet/` and `bvlc_alexnet/`: in the installed package, or in a checkout."""
    package = os.path.dirname(os.path.abspath(__file__))
    for folder in (os.path.join(package, "data"), os.path.join(os.path.dirname(package), "golden")):
        if os.path.isdir(os.path.join(folder, "alexnet")):
            return folder
    raise Caffe2TFError("the installed package lacks its golden sets; install it again")


def alexnet_text() -> str:
    """The path of AlexNet's network text, which comes with the package."""
    return os.path.join(home(), "alexnet", "deploy.prototxt")


def classes(column: int = 2) -> list[str]:
    """The names of ImageNet's 1000 classes, in Caffe's order; of column 1 their WordNet ids."""
    with open(os.path.join(home(), "imagenet_classes.tsv"), encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t")[column] for line in file][1:]


def record_script() -> str:
    """The script that records a golden set where Caffe is, as text."""
    with open(os.path.join(home(), "record.py"), encoding="utf-8") as file:
        return file.read()
