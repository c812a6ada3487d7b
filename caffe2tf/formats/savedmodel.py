"""TensorFlow SavedModel folder, chosen by `OUT/`; `serving_default` has inputs and outputs named as Caffe's blobs. (loads TensorFlow)

Read it with `tf.saved_model.load(path).signatures["serving_default"]`.
"""

import tensorflow as tf

from caffe2tf.formats import _reload
from caffe2tf.model import to_keras


def serving(model, net):
    """A tf.function from Caffe's input blobs by name to {output blob: tensor}, as `model` computes it."""
    specs = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=argument(blob))
        for blob, tensor in zip(net.inputs, model.inputs, strict=True)
    ]
    names = [blob for blob in net.outputs if not net.is_constant(blob)]

    @tf.function(input_signature=specs)
    def serve(*inputs):
        outputs = model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return dict(zip(names, outputs, strict=True))

    return serve


def argument(blob):
    """The name of an input of the signature: TensorFlow's argument names are Python's."""
    return "".join(c if c.isalnum() else "_" for c in blob)


def save(net, path, progress=None):
    """Returns the largest difference between the model and the folder read back."""
    model, given = to_keras(net), _reload.example(net)
    serve = serving(model, net)
    tf.saved_model.save(model, path, signatures={"serving_default": serve})
    if progress:
        progress(sum(variable.numpy().nbytes for variable in model.weights))
    # The loaded object must outlive the call: its variables go with it.
    again = tf.saved_model.load(path)
    named = {argument(blob): tf.constant(array) for blob, array in zip(net.inputs, given, strict=True)}
    expected, found = serve(*named.values()), again.signatures["serving_default"](**named)
    return _reload.largest_difference(path, _reload.values(expected), [found[name].numpy() for name in expected])
