"""What a network text says of how its weights learn: `lr_mult` and `decay_mult`."""

from caffe2tf.caffe.caffe_pb2 import ParamSpec
from caffe2tf.layers import Layer

# What is measured and not learned: texts say 0 of it, and mean nothing of the layer.
_MEASURED = ("moving_mean", "moving_variance", "factor")


def said(layer: Layer) -> dict[str, tuple[float, float]]:
    """{weight: (lr_mult, decay_mult)} of a layer whose text says any of them, for all of its weights; else {}."""
    specs = list(layer.proto.param)
    if not any(spec.HasField("lr_mult") or spec.HasField("decay_mult") for spec in specs):
        return {}
    specs += [ParamSpec()] * len(layer.blobs())
    return {weight.name: (spec.lr_mult, spec.decay_mult) for weight, spec in zip(layer.blobs(), specs, strict=False)}


def rests(layer: Layer) -> bool:
    """Whether the text says of every weight of `layer` that it does not learn (lr_mult 0)."""
    rates = [rate for name, (rate, _) in said(layer).items() if name not in _MEASURED]
    return bool(rates) and not any(rates)
