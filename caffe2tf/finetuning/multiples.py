"""How fast each weight learns and how strongly it is pulled towards 0, beside the others."""

from collections.abc import Mapping, Sequence

from caffe2tf.finetuning.plan import Plan
from caffe2tf.finetuning.settings import Stage
from caffe2tf.finetuning.specs import said
from caffe2tf.keras_model.context import Binding


def multiples(
    plan: Plan, stage: Stage, bindings: Mapping[str, Sequence[Binding]], spread: float = 1.0
) -> dict[int, tuple[float, float]]:
    """{id of a variable: (how many times the learning rate, how many times the weight decay)} of all that `bindings` hold,
    {layer: its variables}.

    A solver's are `lr_mult` and `decay_mult` of the text, 1 where it says none, as in Caffe. Without one they are those of the
    text in layers that say any, unless the stage leaves them out (`lr_mult` off), and else 1 and, for what is no matrix,
    no decay; the head's rate is `head_lr` times that. With Adam, for which alone `spread` is said, the head's kernel learns as if the values that it reads were
    divided by `spread`, how far they lie apart: its steps are that much smaller and its decay is of what they amount to, so
    that the same settings serve features of any size.
    """
    found = {}
    for name, held in bindings.items():
        layer, times = plan.top.layer(name), stage.head_times if name == plan.head else 1.0
        specs = said(layer) if stage.solver or stage.lr_mult == "text" else {}
        for one in held:
            usual = (1.0, 1.0) if stage.solver or len(one.variable.shape) > 1 else (1.0, 0.0)
            rate, decay = specs.get(one.weight, usual)
            unit = spread if name == plan.head and one.weight == "kernel" else 1.0
            found[id(one.variable)] = rate * times / unit, decay * unit**2
    return found
