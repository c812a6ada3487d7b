"""Golden sets: networks with results that Caffe itself computed."""

import os

from caffe2tf.errors import Caffe2TFError


def home():
    """The folder that holds `alexnet/` and `bvlc_alexnet/`: in the installed package, or in a checkout."""
    package = os.path.dirname(os.path.abspath(__file__))
    for folder in (os.path.join(package, "data"), os.path.join(os.path.dirname(package), "golden")):
        if os.path.isdir(os.path.join(folder, "alexnet")):
            return folder
    raise Caffe2TFError("the installed package lacks its golden sets; install it again")


def alexnet_text():
    """The path of AlexNet's network text, which comes with the package."""
    return os.path.join(home(), "alexnet", "deploy.prototxt")
