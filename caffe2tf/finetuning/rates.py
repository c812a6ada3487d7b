"""Caffe's solver as a run of finetune follows it: its numbers, and the learning rate of every iteration."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from caffe2tf.caffe.caffe_pb2 import SolverParameter


@dataclass(frozen=True)
class Solver:
    """A solver file's numbers by Caffe's names; `l1` for regularization_type L1, `clip` None for no clipping."""

    type: str
    base_lr: float
    lr_policy: str
    max_iter: int
    gamma: float = 0.0
    power: float = 0.0
    stepsize: int = 1
    stepvalue: tuple[int, ...] = ()
    momentum: float = 0.0
    momentum2: float = 0.999
    rms_decay: float = 0.99
    delta: float = 1e-8
    weight_decay: float = 0.0
    l1: bool = False
    clip: float | None = None
    iter_size: int = 1
    test_interval: int = 0
    snapshot: int = 0

    @classmethod
    def of(cls, said: SolverParameter) -> "Solver":
        """From a SolverParameter that `caffe.solver.read_solver` found right."""
        same = {
            name: getattr(said, name) for name in cls.__dataclass_fields__ if name not in ("stepvalue", "l1", "clip")
        }
        clip = said.clip_gradients if said.clip_gradients >= 0 else None
        return cls(**same, stepvalue=tuple(said.stepvalue), l1=said.regularization_type == "L1", clip=clip)

    def rate(self, iteration: Any, ops: ModuleType | Any = np) -> Any:
        """The learning rate of `iteration`, from 0, by lr_policy (SGDSolver::GetLearningRate). `ops` computes: NumPy, or
        keras.ops where `iteration` is a float tensor."""
        if self.lr_policy == "step":
            share = ops.power(self.gamma, ops.floor(iteration / self.stepsize))
        elif self.lr_policy == "exp":
            share = ops.power(self.gamma, iteration)
        elif self.lr_policy == "inv":
            share = ops.power(1 + self.gamma * iteration, -self.power)
        elif self.lr_policy == "multistep":
            passed = sum(ops.where(iteration >= value, 1.0, 0.0) for value in self.stepvalue)
            share = ops.power(self.gamma, passed)
        elif self.lr_policy == "poly":
            share = ops.power(1 - iteration / self.max_iter, self.power)
        elif self.lr_policy == "sigmoid":
            share = 1 / (1 + ops.exp(-self.gamma * (iteration - self.stepsize)))
        else:
            share = 1.0
        return self.base_lr * share
