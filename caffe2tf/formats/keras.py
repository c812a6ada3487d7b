"""Keras model of stock layers: it opens where caffe2tf is not installed. (loads TensorFlow)

Read it with `keras.models.load_model(path)`.
"""

import zipfile

import keras

from caffe2tf import preprocess
from caffe2tf.formats import _reload
from caffe2tf.model import to_keras


def save(net, path, progress=None):
    """Returns the largest difference between the model and the file read back."""
    model, given = to_keras(net), _reload.example(net)
    model.save(path)
    # How pictures become its input goes along; Keras leaves files that it does not know alone.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(preprocess.FILE, preprocess.to_json(net))
    if progress:
        progress(sum(variable.numpy().nbytes for variable in model.weights))
    again = keras.models.load_model(path)
    given = given if len(given) > 1 else given[0]
    return _reload.largest_difference(path, _reload.values(model(given)), _reload.values(again(given)))
