"""In which order a stage goes through its examples, and when it is judged."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe2tf.finetuning.settings import Stage

_Places = NDArray[np.intp]
_LEAST = 50  # steps of an epoch, where nobody says how many epochs


@dataclass(frozen=True)
class Walk:
    """`count` examples in steps of `batch`; `rounds` of them, after each of which the stage is judged: passes over all
    examples whose last batch may be smaller, or, where `iterations` says how many steps there are, as Caffe's data layers go,
    `each` of them, all of one size, the next pass beginning inside a batch."""

    count: int
    batch: int
    rounds: int
    each: int
    shuffled: bool
    iterations: int | None = None
    counted: bool = False  # whether the user thinks in iterations

    @classmethod
    def of(cls, stage: Stage, count: int, cheap: bool = True) -> "Walk":
        """Of `stage` over `count` examples; a solver's test_interval is a round, else a pass is, or as many of them as make
        `_LEAST` steps, where a step is `cheap`: of features that are computed once."""
        solver, shuffled = stage.solver, stage.order == "random"
        if solver is None:
            each = -(-count // stage.batch_size)
            if cheap and stage.epochs is None and each < _LEAST:  # few pictures need as many steps as many
                return cls(count, stage.batch_size, stage.rounds, _LEAST, shuffled, stage.rounds * _LEAST)
            return cls(count, stage.batch_size, stage.rounds, each, shuffled)
        batch = stage.batch_size * solver.iter_size
        each = min(solver.test_interval or -(-count // batch), solver.max_iter)
        return cls(count, batch, -(-solver.max_iter // each), each, shuffled, solver.max_iter, True)

    def steps(self, number: int) -> int:
        """How many steps round `number` has, from 0."""
        return self.each if self.iterations is None else min(self.each, self.iterations - number * self.each)

    def examples(self, number: int) -> int:
        """How many examples round `number` sees, those that come twice counted twice."""
        return self.count if self.iterations is None else self.steps(number) * self.batch

    def told(self, number: int) -> str:
        """Round `number`, from 1, in words."""
        if not self.counted:
            return f"epoch {number:3}"
        return f"epoch {number:3} (iteration {min(number * self.each, self.iterations or 0)})"

    def order(self, number: int, key: tuple[int, ...]) -> _Places:
        """The places of the examples of round `number` in their order. `key`: the numbers by which chance is drawn."""
        if self.iterations is None:
            return self._pass(number, key)
        start = number * self.each * self.batch
        passes = range(start // self.count, -(-(start + self.examples(number)) // self.count))
        whole = np.concatenate([self._pass(number, key) for number in passes])
        first = start - passes[0] * self.count
        return whole[first : first + self.examples(number)]

    def _pass(self, number: int, key: tuple[int, ...]) -> _Places:
        if not self.shuffled:
            return np.arange(self.count)
        return np.random.default_rng((*key, number)).permutation(self.count)
