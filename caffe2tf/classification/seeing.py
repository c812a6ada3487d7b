"""Pictures as they come through a model as it can take them: decoded ahead by threads, in batches, seen one after the other."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, repeat

import numpy as np

from caffe2tf.arrays.layout import Array, Floats
from caffe2tf.classification.seen import Box, Seen
from caffe2tf.errors import ParseError
from caffe2tf.images import boxes, preprocess
from caffe2tf.images import decode as imaging
from caffe2tf.images.crops import Ten
from caffe2tf.probabilities import best, probabilities

BATCH = 16
MANY = 64  # pictures from which compiling the model pays
_READERS = min(4, os.cpu_count() or 1)
_AHEAD = 3  # batches that are decoded before the model asks for them: 30 MB at 227 x 227
_Label = tuple[int, str] | None
_Loaded = tuple[Seen, Floats | None, preprocess.Size]


@dataclass(frozen=True)
class Classifier:
    """`run` maps pictures, float32 (N, H, W, C) as `preprocessing` gives them, to the network's output (N, classes), or where it
    `detects` to rows (N, K, 7) of image, class, score and corners; `source` says where the preprocessing comes from.

    `batch` pictures, or crops of them, go at a time; with `full` never fewer. `crops`: 1, or 10 as images.crops has them.
    `warning`: why its answers mean nothing, where that is known.
    """

    run: Callable[[Floats], Array]
    preprocessing: preprocess.Preprocessing
    source: str
    names: tuple[str, ...]
    ids: tuple[str, ...] = ()
    batch: int = BATCH
    full: bool = False
    crops: int = 1
    detects: bool = False
    warning: str = ""

    def __call__(
        self, paths: Iterable[str], count: int | None = 5, labels: Iterable[int] | None = None
    ) -> Iterator[Seen]:
        """Yields a Seen with `count` classes or boxes, None for all of them, for each of `paths`, in their order, decoding ahead of
        the model, in memory that does not grow with them. `labels`: the number of the class of each, where they are known."""
        known: Iterable[_Label] = ((n, self.names[n]) for n in labels) if labels is not None else repeat(None)
        work = zip(paths, known, strict=False)
        ahead, loaded = deque[Future[_Loaded]](), list[_Loaded]()
        together = max(1, self.batch // self.crops)
        pool = ThreadPoolExecutor(_READERS)
        try:
            ahead.extend(pool.submit(self._load, *one) for one in islice(work, _AHEAD * together))
            while ahead:
                loaded.append(ahead.popleft().result())
                ahead.extend(pool.submit(self._load, *one) for one in islice(work, 1))
                if len(loaded) == together or not ahead:
                    yield from self._see(loaded, count)
                    loaded = []
        finally:
            pool.shutdown(cancel_futures=True)

    @property
    def described(self) -> str:
        """How pictures become input, in words."""
        words = str(self.preprocessing)
        if self.crops == 1:
            return words
        return f"{words.replace('centre crop', 'crops of')}, {self.crops} crops averaged"

    @cached_property
    def _ten(self) -> Ten:
        return Ten(self.preprocessing)

    def _load(self, path: str, label: _Label) -> _Loaded:
        """(Seen without classes, (crops, H, W, C) or None, size of the picture)."""
        notes: list[str] = []
        try:
            image = imaging.read_image(path, self.preprocessing.channels == 1, notes.append)
            made = self._ten(image) if self.crops == 10 else self.preprocessing.apply(image)[None]
        except ParseError as error:
            return Seen(path, label=label, error=str(error)), None, (0, 0)
        seen = Seen(path, label=label, note="".join(notes) or None)
        # As Keras takes it: the memory is in that order already.
        return seen, made.transpose(0, 2, 3, 1), (image.shape[0], image.shape[1])

    def _see(self, loaded: Sequence[_Loaded], count: int | None) -> Iterator[Seen]:
        images = [image for _, image, _ in loaded if image is not None]
        outputs = iter(self._outputs(np.concatenate(images)) if images else ())
        for seen, image, size in loaded:
            if image is None:
                yield seen
            elif self.detects:
                yield replace(seen, boxes=self._boxes(next(outputs), size)[:count])
            else:
                found = best(next(outputs), len(self.names) if count is None else count)
                yield replace(seen, top=tuple((c, self.names[c], p) for c, p in found))

    def _outputs(self, images: Floats) -> Array:
        """What the network says of the pictures of which `images` are the crops: rows, or probabilities of the mean output."""
        found = []
        for start in range(0, len(images), self.batch):
            some = images[start : start + self.batch]
            blank = np.zeros((self.batch - len(some) if self.full else 0, *some.shape[1:]), np.float32)
            found.append(self.run(np.concatenate([some, blank]))[: len(some)])
        outputs = np.concatenate(found)
        if self.detects:
            return outputs
        return probabilities(outputs.reshape(-1, self.crops, *outputs.shape[1:]).mean(1, dtype=np.float64))

    def _boxes(self, rows: Array, size: preprocess.Size) -> tuple[Box, ...]:
        how, found = self.preprocessing, []
        for _, number, score, *corners in rows[rows[:, 0] >= 0].tolist():
            if not 0 <= number < len(self.names):
                raise ParseError(f"the model found class {number:g}; it has {len(self.names)} classes")
            place = boxes.in_picture(corners, how.resize, how.crop, size)
            found.append(Box(int(number), self.names[int(number)], score, *place))
        return tuple(found)
