"""Caffe's solver files, and what the text of the network that they train says of its data."""

import math
import os
from collections.abc import Collection
from dataclasses import dataclass

from caffe2tf.caffe import datalayers, foreign, legacy, prototxt, purposes
from caffe2tf.caffe.caffe_pb2 import TRAIN, LayerParameter, SolverParameter, TransformationParameter
from caffe2tf.caffe.read import read_prototxt
from caffe2tf.errors import ParseError
from caffe2tf.files import records

TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")
# {lr_policy: the fields that its formula needs} (SGDSolver::GetLearningRate)
POLICIES = {
    "fixed": (),
    "step": ("gamma", "stepsize"),
    "exp": ("gamma",),
    "inv": ("gamma", "power"),
    "multistep": ("gamma", "stepvalue"),
    "poly": ("power",),
    "sigmoid": ("gamma", "stepsize"),
}
_NEEDED = ("base_lr", "lr_policy", "max_iter")
_WITHOUT_MOMENTUM = ("AdaGrad", "RMSProp")
# {field: (least, largest, whether the largest is allowed)}
_BOUNDS = {
    "max_iter": (1, math.inf, True),
    "iter_size": (1, math.inf, True),
    "stepsize": (1, math.inf, True),
    "base_lr": (0, math.inf, False),
    "gamma": (0, math.inf, False),
    "power": (-math.inf, math.inf, True),
    "momentum": (0, 1, False),
    "momentum2": (0, 1, False),
    "rms_decay": (0, 1, False),
    "delta": (0, math.inf, False),
    "weight_decay": (0, math.inf, False),
    "test_interval": (0, math.inf, True),
    "snapshot": (0, math.inf, True),
}


def read_solver(path: str | os.PathLike[str]) -> SolverParameter:
    """The solver in the text file `path`, its type in `type` (older files have an enum) and its network in `net`.

    Raises ParseError, one line, for what Caffe refuses: an unknown field, type, lr_policy or regularization_type, no network or
    several, momentum where the rule has none. For what it would compute with 0 where a number is forgotten, too: no
    base_lr, no max_iter, an lr_policy without its parameters.
    """
    try:
        data = records.whole(path)
    except OSError as error:
        raise ParseError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except ParseError as error:
        raise ParseError(f"{path}: {error}") from None
    if not foreign.is_text(data):
        raise ParseError(f"{path}: is binary, expected a solver text (solver.prototxt)")
    foreign.refuse(path, data)
    solver = SolverParameter()
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    unknown = prototxt.parse(text, solver, str(path))
    if unknown:
        if any(f"unknown field '{name}'" in unknown[0] for name in ("layer", "layers", "input", "name")):
            raise ParseError(f"{path}: is a network text, expected a solver that names one with `net`")
        raise ParseError(unknown[0].replace(" skipped", "; Caffe's solvers have none of that name"))
    _normalise(solver, path)
    _check(solver, path)
    return solver


def _normalise(solver: SolverParameter, path: str | os.PathLike[str]) -> None:
    if solver.HasField("solver_type"):
        if solver.HasField("type"):
            raise ParseError(f"{path}: has both solver_type and type; Caffe takes one of them")
        names = {name.upper(): name for name in TYPES}
        solver.type = names[SolverParameter.SolverType.Name(solver.solver_type)]
        solver.ClearField("solver_type")
    named = [name for name in ("net", "train_net", "net_param", "train_net_param") if solver.HasField(name)]
    if len(named) > 1:
        raise ParseError(f"{path}: names several networks ({' and '.join(named)}); Caffe takes one")
    if named and named[0].endswith("_param"):
        raise ParseError(f"{path}: {named[0]} holds the network itself; put it into a file and name that as `net`")
    if solver.HasField("train_state") and (solver.train_state.stage or solver.train_state.level):
        raise ParseError(
            f"{path}: train_state chooses layers by stage or level; name a text without such rules as `net`"
        )
    if solver.train_net:
        solver.net = solver.train_net


def _check(solver: SolverParameter, path: str | os.PathLike[str]) -> None:
    for name in _NEEDED:
        if not solver.HasField(name):
            raise ParseError(f"{path}: says no {name}; a solver needs {', '.join(_NEEDED)}")
    _among(path, "type", solver.type, TYPES)
    _among(path, "lr_policy", solver.lr_policy, POLICIES)
    _among(path, "regularization_type", solver.regularization_type, ("L2", "L1"))
    for name in POLICIES[solver.lr_policy]:
        if not (solver.stepvalue if name == "stepvalue" else solver.HasField(name)):
            takes = ", ".join(POLICIES[solver.lr_policy])
            raise ParseError(f'{path}: lr_policy "{solver.lr_policy}" without {name}; it takes {takes}')
    for name, (least, most, allowed) in _BOUNDS.items():
        value = getattr(solver, name)
        if solver.HasField(name) and not (least <= value and (value < most or (allowed and value <= most))):
            end = f" to below {most:g}" if most < math.inf else ""
            raise ParseError(f"{path}: {name} {value:g}; takes a number from {least:g}{end}")
    if solver.type in _WITHOUT_MOMENTUM and solver.momentum:
        raise ParseError(f"{path}: momentum {solver.momentum:g} with {solver.type}; Caffe takes none there")
    if list(solver.stepvalue) != sorted(solver.stepvalue):
        raise ParseError(f"{path}: stepvalue {list(solver.stepvalue)}; takes iterations in rising order")


def _among(path: str | os.PathLike[str], name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise ParseError(f'{path}: {name} "{value}"; takes one of {", ".join(known)}')


@dataclass(frozen=True)
class TrainingInput:
    """What the data layer of the training phase says: `transform` of a picture, `batch` pictures in a step (None where it
    says none)."""

    transform: TransformationParameter
    batch: int | None


def training_input(path: str | os.PathLike[str]) -> TrainingInput:
    """The TrainingInput of the network text `path`, of whatever generation; of an Input, the extent of its first axis is the
    batch unless it is 1, as texts for inference have it. Raises ParseError and NetError."""
    net = read_prototxt(path, []).net
    for layer in [*(legacy.layers(net.layers) if net.layers else []), *net.layer]:
        if not _trains(layer):
            continue
        if purposes.is_data(layer) and layer.top:
            datalayers.move_transform(layer)
            param = purposes.DATA.get(layer.type)
            said = getattr(layer, param) if param else None
            return TrainingInput(layer.transform_param, getattr(said, "batch_size", 0) or None)
        if layer.type == "Input" and layer.input_param.shape:
            dims = layer.input_param.shape[0].dim
            return TrainingInput(TransformationParameter(), dims[0] if dims and dims[0] > 1 else None)
    return TrainingInput(TransformationParameter(), None)


def _trains(layer: LayerParameter) -> bool:
    """Whether it is there in the training phase."""
    if layer.include:
        return any(not rule.HasField("phase") or rule.phase == TRAIN for rule in layer.include)
    return not any(rule.HasField("phase") and rule.phase == TRAIN for rule in layer.exclude)
