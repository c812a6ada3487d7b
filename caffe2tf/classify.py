"""Pictures in, classes with names and probabilities out, for any model that caffe2tf reads or writes."""

import json
import os
import zipfile
from dataclasses import dataclass

import numpy as np

from caffe2tf import formats, preprocess
from caffe2tf import golden as goldens
from caffe2tf.errors import Caffe2TFError, ParseError
from caffe2tf.verification import best, predictor, probabilities

BATCH = 16


@dataclass(frozen=True)
class Classifier:
    """`run` maps images (N, C, H, W) as `preprocessing` gives them to probabilities (N, classes); `source` says where
    the preprocessing comes from."""

    run: object
    preprocessing: preprocess.Preprocessing
    source: str
    names: tuple

    def __call__(self, paths, count=5):
        """Yields (path, [(class, name, probability), ...]), best first, for each picture."""
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            rows = self.run(np.stack([self.preprocessing.load(path) for path in batch]))
            if len(self.names) not in (0, rows.shape[1]):
                raise Caffe2TFError(f"{len(self.names)} labels for {rows.shape[1]} outputs; takes one line for each")
            names = self.names or (goldens.classes() if rows.shape[1] == 1000 else [])
            for path, row in zip(batch, rows, strict=True):
                yield path, [(c, names[c] if names else str(c), p) for c, p in best(row, count)]


def load(model, prototxt=None, labels=None, input_shape=None):
    """A Classifier of a .caffemodel, weights (.npy, .npz, .h5, .safetensors), a .keras file, a SavedModel folder or a
    folder of finetune's results.

    `labels`: a file with one class name per line, ImageNet's where there are 1000 outputs. Raises Caffe2TFError.
    """
    names = tuple(_labels(labels)) if labels else ()
    settings = os.path.join(model, "settings.json")
    if os.path.exists(settings):  # the results of finetune
        names = names or tuple(_labels(os.path.join(model, "labels.txt")))
        with open(settings, encoding="utf-8") as file:
            how = preprocess.Preprocessing(**json.load(file)["preprocessing"])
        run, _, _ = _keras(os.path.join(model, "best.keras"))
        return Classifier(run, how, "the settings it was trained with", names)
    if os.path.isdir(model) or model.endswith(".keras"):
        if prototxt:
            raise Caffe2TFError(f"{model}: holds the whole network; -p/--prototxt has no part in it")
        run, shape, noted = _saved_model(model) if os.path.isdir(model) else _keras(model)
        if input_shape:
            shape = tuple(input_shape.get(None) or next(iter(input_shape.values())))
        if noted.get("preprocessing") and not input_shape:
            how, source = preprocess.Preprocessing(**noted["preprocessing"]), noted["source"]
        else:
            how, source = (
                preprocess.habit(shape),
                "Caffe's ImageNet habit" if shape[1] == 3 else "the input's size alone",
            )
    else:
        net = formats.load(prototxt, model, input_shape)
        if len(net.outputs) != 1:
            raise Caffe2TFError(f"{model}: has the outputs {', '.join(net.outputs)}; classify takes networks with one")
        run, (how, source) = predictor(net), preprocess.of(net)
    if how.resize is None:
        raise Caffe2TFError(f"{model}: the network takes any size, so nothing says which; give it with --input-shape")
    return Classifier(run, how, source, names)


def _labels(path):
    try:
        with open(path, encoding="utf-8") as file:
            return [line.rstrip("\n") for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ParseError(f"{path}: cannot be read as labels: {getattr(error, 'strerror', None) or error}") from None


def _keras(path):
    import keras

    try:
        model = keras.models.load_model(path)
    except (OSError, ValueError) as error:
        raise ParseError(f"{path}: is not a .keras file that can be read ({str(error).splitlines()[0]})") from None
    shape = model.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ParseError(f"{path}: has no single image input; its input is {shape}")
    if isinstance(model.output, (list, tuple)):
        raise ParseError(f"{path}: has {len(model.output)} outputs; classify takes networks with one")
    with zipfile.ZipFile(path) as archive:
        noted = json.loads(archive.read(preprocess.FILE)) if preprocess.FILE in archive.namelist() else {}

    def run(images):
        return probabilities(keras.ops.convert_to_numpy(model(images.transpose(0, 2, 3, 1))))

    return run, (shape[0], shape[3], *shape[1:3]), noted


def _saved_model(path):
    if not os.path.exists(os.path.join(path, "saved_model.pb")):
        raise ParseError(f"{path}: is a folder without saved_model.pb, so it is no SavedModel")
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]
    spec = next(iter(signature.structured_input_signature[1].values()))
    shape = spec.shape.as_list()

    if len(signature.structured_outputs) != 1:
        raise ParseError(
            f"{path}: has the outputs {', '.join(signature.structured_outputs)}; classify takes networks with one"
        )
    note = os.path.join(path, "assets.extra", preprocess.FILE)
    noted = {}
    if os.path.exists(note):
        with open(note, encoding="utf-8") as file:
            noted = json.load(file)

    def run(images, keep=loaded):  # the loaded object must live as long as its function
        outputs = signature(**{spec.name: tf.constant(images.transpose(0, 2, 3, 1))})
        return probabilities(next(iter(outputs.values())).numpy())

    return run, (shape[0], shape[3], *shape[1:3]), noted
