"""The pictures of a run's sets, and what its stages take of them: features, decoded pictures, or files as they are."""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf import spent, words
from caffe2tf.files.shards import INDEX, Shards, per_shard
from caffe2tf.finetuning import batches, features, inputs, rows
from caffe2tf.finetuning.batches import Examples
from caffe2tf.finetuning.data import DataError, Pictures, Record, Source
from caffe2tf.finetuning.placement import Placement
from caffe2tf.finetuning.plan import Plan
from caffe2tf.finetuning.rows import Decoded, Held, Picked, Places, Rows
from caffe2tf.finetuning.settings import Recipe, Stage
from caffe2tf.images.preprocess import Preprocessing
from caffe2tf.net.net import Net

NAMES = ("training", "validation", "test")
BUDGET = batches.HELD_LIMIT  # bytes of pictures, and of features, that are held in memory where `cache` says nothing
_Bar = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]
_DECODED = "pixels"


class Sets:
    """The sets of the Recipe `run`, training, validation and, or None, test. All their pictures are rows of one list, of which
    each worker of `placed` reads its share; `folder` is where features go that memory has no room for."""

    def __init__(
        self,
        run: Recipe,
        parts: Sequence[Pictures | None],
        how: Preprocessing,
        placed: Placement,
        say: Callable[[str], object],
        bar: _Bar,
    ) -> None:
        self.run, self.how, self.placed, self.say, self.bar = run, how, placed, say, bar
        self.parts = [part for part in parts if part is not None]
        self.classes = self.parts[0].classes
        # In an order that does not depend on how they are split.
        sources: list[Source] = sorted({s for part in self.parts for s in part.sources if isinstance(s, str)})
        sources += sorted({s for part in self.parts for s in part.sources if isinstance(s, Record)})
        number = {source: index for index, source in enumerate(sources)}
        self.rows: list[Places] = [np.array([number[s] for s in part.sources], np.intp) for part in self.parts]
        self.labels = [part.labels for part in self.parts]
        self.decoded = Decoded(sources, how, run.strict, say)
        self.pixels: Rows = self.decoded
        self.folder = ""
        self.each = per_shard(len(sources), self.picture)
        self.cache: tuple[Any, list[Rows], tuple[Any, ...], int] | None = None
        if placed.workers > len(self.parts[0]):
            raise DataError(
                f"{placed.workers} workers for {len(self.parts[0])} training pictures; each takes one at least"
            )

    def check(self, cached: Sequence[bool]) -> None:
        """Reads pictures before anything is written, where a stage takes them again in every epoch or the user wants none left out;
        `cached`: which stages take features. Raises DataError."""
        if not all(cached):
            self.read()
        if self.run.strict and self.pixels is self.decoded:
            mine = np.flatnonzero(self._mine(self.each))
            with self.bar("checking pictures", len(mine)) as step:
                for start in range(0, len(mine), features.BATCH):
                    part = mine[start : start + features.BATCH]
                    self.decoded[part]
                    step(len(part))

    @property
    def picture(self) -> int:
        """The bytes of a decoded picture."""
        return int(np.prod(self.decoded.shape[1:]))

    def _mine(self, each: int) -> NDArray[np.bool_]:
        mine: NDArray[np.bool_] = (
            rows.owners(len(self.decoded.sources), each, self.placed.workers) == self.placed.worker
        )
        return mine

    # -------------------------------------------------------------- where what is read is kept

    def held(self, size: int) -> int:
        """How much of `size` bytes of features or pictures is in this worker's memory."""
        share = size // self.placed.workers
        return size if self.run.cache == "memory" or (self.run.cache is None and share <= BUDGET) else 0

    def _where(self, kind: str, size: int) -> str | None:
        """ "memory", a folder, or None, for `size` bytes of features or pictures; tells the user."""
        cache = self.run.cache
        where: str | None = None
        if self.held(size):
            where = "memory"
        elif cache is None and kind == "features":
            where = self.folder
        elif cache is not None and cache.startswith("disk:"):
            where = cache[5:]
        said = f"{kind} take {words.size(size)}: "
        if where is None:
            said += (
                f"more than {words.size(BUDGET)}, they are read anew in every epoch" if cache is None else "read anew"
            )
        elif cache is None and where != "memory":
            said += (
                f"more than {words.size(BUDGET)}, they lie on the disk until the run ends, `cache` disk:DIR keeps them"
            )
        else:
            said += "in memory" if where == "memory" else f"in {where}, for later runs too"
        self.say(said)
        return where

    def read(self) -> None:
        """Decodes all pictures into memory or onto the disk, where `cache` says so or they fit: for stages that take them again in
        every epoch. Raises DataError for a class without pictures."""
        where = self._where("pictures", len(self.decoded.sources) * self.picture)
        if where is None:
            return
        mine = self._mine(self.each)
        with self.bar("reading pictures", int(mine.sum())) as step, spent.on("pictures"):
            if where == "memory":
                held = np.zeros(self.decoded.shape, np.uint8)
                for group in features.groups(mine):
                    held[group] = self.decoded[group]
                    step(len(group))
                self.pixels = held
            else:
                said = {"pictures": f"{len(mine)} {rows.digest(self.decoded.sources)[:12]}"}
                said["decoded"] = f"{self.decoded.shape[1:]} {self.how.method}"
                known = features.digest(said)
                arrays = {_DECODED: ("U8", self.decoded.shape[1:])}
                shards = Shards(
                    os.path.join(where, f"pictures-{known[:16]}"), known, said, len(mine), self.each, arrays
                )

                def decode(wanted: list[Places]) -> features.Computed:
                    return ((group, [self.decoded[group]]) for group in wanted)

                (self.pixels,) = features.kept(shards, mine, self.decoded.bad, step, self.say, decode)
        self._leave_out(mine)

    def _leave_out(self, mine: NDArray[np.bool_]) -> None:
        """Leaves out what some worker could not read."""
        bad = self.placed.total((self.decoded.bad & mine).astype(np.int32)) > 0
        for index, name in zip(range(len(self.parts)), NAMES, strict=False):
            good = ~bad[self.rows[index]]
            if not good.all():
                left, count = int((~good).sum()), len(good)
                self.say(f"{left} of {count} {name} pictures cannot be read and are skipped")
                places = np.flatnonzero(good).tolist()
                if not places:
                    raise DataError(f"none of the {count} {name} pictures can be read")
                self.parts[index] = self.parts[index].take(places)
                self.rows[index], self.labels[index] = self.rows[index][places], self.parts[index].labels
                inputs.check_classes(name, self.parts[index])

    # -------------------------------------------------------------- what a stage takes

    def examples(
        self, work: Plan, stage: Stage, usual: tuple[float, float] | None
    ) -> tuple[Plan, tuple[Examples, Examples]]:
        """(the Plan, training and validation Examples): of features where nothing below changes, else of pictures."""
        why = uncached(self.run, work, stage)
        if work.base is None or why:
            self.say(f"frozen features are not cached: {why}")
            return work.uncached(), self._pictures(stage, usual)
        self._features(work, work.base)
        assert self.cache is not None
        _, stores, held, each = self.cache
        self.say(f"frozen features up to {', '.join(work.frontier)} are computed once")
        made = [
            Examples(
                [Picked(store, places) for store in stores], labels, None, self.how.span, usual, held, places,
                self._owners(places, each),
            )
            for places, labels in zip(self.rows[:2], self.labels[:2], strict=True)
        ]  # fmt: skip
        return work, (made[0], made[1])

    def _owners(self, places: Places, each: int) -> NDArray[np.intp]:
        return rows.owners(len(self.decoded.sources), each, self.placed.workers)[places]

    def _pictures(self, stage: Stage, usual: tuple[float, float] | None) -> tuple[Examples, Examples]:
        made = []
        for places, labels, augment in zip(self.rows, self.labels, (stage.augment, ()), strict=False):
            part = batches.pictures(Picked(self.pixels, places), labels, self.how, augment, usual)
            part.owners = self._owners(places, self.each)
            part.good = lambda wanted, places=places: ~self.decoded.bad[places[wanted]]
            made.append(part)
        return made[0], made[1]

    def _features(self, work: Plan, base: Net) -> None:
        """Computes the features that `work` takes, unless they are at hand."""
        key = _key(work)
        if self.cache is not None and self.cache[0] == key:
            return
        self.cache = None  # before the next takes its memory
        count = len(self.decoded.sources)
        said = features.about(base, work.frontier, self.how, self.decoded.sources, self.run.precision)
        found, made = None, None
        if self.run.cache is not None and self.run.cache.startswith("disk:"):
            found = features.there(self._place(self.run.cache[5:], said), said)
        if found:
            made = {blob: shape for blob, (_, shape) in found.arrays.items()}
        else:
            made = features.shapes(base, work.frontier, self.how, self.decoded)
        size = features.size(made, count)
        where = self._where("features", size)
        each = per_shard(count, features.size(made, 1))
        mine, held = self._mine(each), tuple[Any, ...]()

        def compute(wanted: list[Places]) -> features.Computed:
            return features.values(base, work.frontier, self.pixels, self.how, wanted)

        with self.bar("features of the pictures", int(mine.sum())) as step, spent.on("features"):
            stores: list[Rows]
            if where != "memory":
                assert where is not None
                shards = features.layout(self._place(where, said), said, made, count)
                stores = [*features.kept(shards, mine, self.decoded.bad, step, self.say, compute)]
            elif self.placed.holds and size <= batches.HELD_LIMIT:
                held = features.held(made, count, step, compute)
                stores = [Held(tensor) for tensor in held]
            else:
                stores = [*features.remembered(made, mine, step, compute)]
        self._leave_out(mine)
        self.cache = key, stores, held, each

    def _place(self, folder: str, said: dict[str, Any]) -> str:
        if os.path.exists(
            os.path.join(folder, INDEX)
        ):  # of `caffe2tf features`: of this network and these pictures, or refused
            return folder
        return os.path.join(folder, f"features-{features.digest(said)[:16]}")

    def remove(self) -> None:
        """Takes away the features that were kept for this run alone."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # -------------------------------------------------------------- what the results show

    def shown(self, index: int) -> tuple[Rows, NDArray[np.int32], NDArray[np.bool_]]:
        """(pictures, labels, which of them this worker reads) of a set."""
        mine = self._owners(self.rows[index], self.each) == self.placed.worker
        return Picked(self.pixels, self.rows[index]), self.labels[index], mine

    def scores(self, work: Plan, index: int) -> NDArray[np.float32]:
        """(N, classes) that the network of `work` gives the pictures of a set, computed by all workers for all of them."""
        places = self.rows[index]
        found = np.zeros((len(places), work.classes), np.float32)
        cached = work.base is not None and self.cache is not None and self.cache[0] == _key(work)
        each = self.cache[3] if cached and self.cache else self.each
        mine = np.flatnonzero(self._owners(places, each) == self.placed.worker)
        wanted = [mine[start : start + features.BATCH] for start in range(0, len(mine), features.BATCH)]
        if cached and self.cache:
            given = [Picked(store, places) for store in self.cache[1]]
            computed = features.outputs(work.top, work.logits, given, wanted)
        else:
            computed = features.values(work.net, [work.logits], Picked(self.pixels, places), self.how, wanted)
        with self.bar(f"the {NAMES[index]} set", len(mine)) as step:
            for part, (values,) in computed:
                found[part] = values.reshape(len(part), -1)
                step(len(part))
        found = self.placed.total(found)
        self._leave_out(self._mine(each))  # what only now was seen to be no picture
        return found[np.isin(places, self.rows[index])]


def uncached(run: Recipe, work: Plan, stage: Stage) -> str:
    """Why a stage does not take features that are computed once; "" where it does."""
    if stage.augment:
        return "augmentation changes them"
    if work.base is None:
        return "the first layers train"
    return "`cache` none" if run.cache == "none" else ""


def is_cached(run: Recipe, work: Plan, stage: Stage) -> bool:
    """Whether a stage takes features that are computed once."""
    return not uncached(run, work, stage)


def _key(work: Plan) -> Any:
    """By which cached features are known: of another network's layers they would be others. Arrays that no stage trained are the
    same objects."""
    arrays = work.base.arrays.values() if work.base else ()
    return work.frontier, [id(array) for layer in arrays for array in layer]
