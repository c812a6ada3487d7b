"""What several judges say of one network on the same inputs, and which of them, or of us, stands alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe2tf.net.net import Net
from caffe2tf.verification.compare import Report, compare
from caffe2tf.verification.sets import Expected, Golden

US = "caffe2tf"


@dataclass(frozen=True)
class Dispute:
    """One blob, made by `layers`: relative L2 differences {(one, other): value} of all pairs of caffe2tf and the judges,
    and who stands `alone`: who differs from all others while these agree; None where nobody or more than one does."""

    layers: tuple[str, ...]
    blob: str
    apart: Mapping[tuple[str, str], float]
    tolerances: Mapping[tuple[str, str], float]
    alone: str | None

    @property
    def agreed(self) -> bool:
        return all(value <= self.tolerances[pair] for pair, value in self.apart.items())


@dataclass(frozen=True)
class Hearing:
    """A Report for each golden set and judge, and a Dispute for each blob that two judges gave, agreed or not."""

    reports: tuple[Report, ...]
    disputes: tuple[Dispute, ...] = ()

    @property
    def passed(self) -> bool:
        return all(report.passed for report in self.reports)


def disputes(net: Net, found: Mapping[str, NDArray[np.float32]], sets: Mapping[str, Golden]) -> tuple[Dispute, ...]:
    """Of our blobs `found` and those of the judges `sets` {name: Golden} on the same inputs; none of fewer than two judges."""
    if len(sets) < 2:
        return ()
    common = set.intersection(*(set(one.blobs) for one in sets.values()))
    answers = list[Dispute]()
    for blob in net.blobs:
        nodes = [node.layer for node in net.nodes if any(made == blob for (made, _), _ in node.made())]
        layers = tuple(layer.name for layer in nodes if layer.type != "Input")
        if blob not in common or not layers:
            continue
        values = {US: found[blob], **{name: one.blobs[blob].values for name, one in sets.items()}}
        allowed = {US: 0.0, **{name: one.tolerances[blob] for name, one in sets.items()}}
        names = list(values)
        pairs = [(one, other) for index, one in enumerate(names) for other in names[index + 1 :]]
        apart = {(one, other): compare(values[one], Expected(values[other])).l2 for one, other in pairs}
        tolerances = {(one, other): max(allowed[one], allowed[other]) for one, other in pairs}
        answers.append(Dispute(layers, blob, apart, tolerances, _alone(names, apart, tolerances)))
    return tuple(answers)


def _alone(
    names: list[str], apart: Mapping[tuple[str, str], float], tolerances: Mapping[tuple[str, str], float]
) -> str | None:
    far = {pair for pair, value in apart.items() if value > tolerances[pair]}
    lonely = [name for name in names if far == {pair for pair in apart if name in pair}]
    return lonely[0] if len(lonely) == 1 else None
