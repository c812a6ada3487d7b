"""What a network makes of pictures, as data for other uses: a folder of shards, a .npz, a .parquet."""

import contextlib
import csv
import io
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2tf import loading, words
from caffe2tf.errors import Caffe2TFError, OutputError
from caffe2tf.files import replacing as files
from caffe2tf.finetuning import data, plan, rows
from caffe2tf.finetuning import features as computing
from caffe2tf.finetuning.placement import Placement, placed, watched
from caffe2tf.finetuning.rows import Places, Rows
from caffe2tf.images import decode as imaging
from caffe2tf.images import preprocess
from caffe2tf.net.net import Net

_LOG = logging.getLogger("caffe2tf")
PICTURES = "pictures.csv"  # in a folder of features: row, file, label, and whether it could be read
_Bar = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]


@dataclass(frozen=True)
class Features:
    """`blobs`: {blob: rows (N, ...) channels last, had by an integer array: `blobs["fc7"][places]`}, of the pictures `files` (N);
    `labels`: (N) numbers into `classes`, -1 where nothing labels them; `good`: (N) which could be read."""

    blobs: Mapping[str, Rows]
    files: tuple[str, ...]
    labels: NDArray[np.int32]
    classes: tuple[str, ...]
    good: NDArray[np.bool_]


def features(
    model: Net | loading.Path,
    pictures: loading.Path,
    prototxt: loading.Path | None = None,
    *,
    out: loading.Path | None = None,
    outputs: str | Sequence[str] | None = None,
    labels_from_names: bool = False,
    input_shape: loading.InputShape | None = None,
    force: bool = False,
    device: str = "auto",
    say: Callable[[str], object] = _LOG.info,
    bar: _Bar | None = None,
    hushed: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
) -> Features:
    """What the network `model` makes of `pictures`: the blobs `outputs`, by default what a new head learns from in place of its last
    layer with weights (averaged over all places, where the head's scores are).

    `pictures`: a folder per class, a list file (`path label` a line), TFRecords, or a folder of pictures without labels;
    with `labels_from_names` a picture's class is its file name up to the first dot. They are sorted by path. `out`: a `.npz` (the
    blobs, `labels`, `classes`, `files`), a `.parquet` (a row for each picture; takes pyarrow), or a folder of shards in
    safetensors that is written as it is computed, goes on after a stop, takes any number of pictures in flat memory, and is
    `finetune`'s `cache`; without it nothing is written. Several workers (`TF_CONFIG`, SLURM) write a folder together.
    `prototxt`, `input_shape`, `device`, `say`, `bar` and `hushed` as for `finetune`. Raises Caffe2TFError.
    """
    target = None if out is None else os.fspath(out)
    kind = "" if target is None else os.path.splitext(target)[1].lower()
    if kind not in ("", ".npz", ".parquet"):
        raise OutputError(f"{target}: takes a .npz, a .parquet, or a folder, whose name has no suffix")
    if kind == ".parquet":
        _arrow()
    if target is not None and kind:
        files.check(target, force)
    with hushed():  # a whole model loads TensorFlow
        net = model if isinstance(model, Net) else loading.load(prototxt, model, input_shape=input_shape)
    net, blobs = _cut(net, [outputs] if isinstance(outputs, str) else outputs)
    how, source = preprocess.of(net)
    found = _sorted(os.fspath(pictures), labels_from_names)
    say(f"the {len(found)} pictures become input as {how} ({source})")
    with contextlib.ExitStack() as stack:
        with hushed():
            place = stack.enter_context(placed(device))
        stack.enter_context(watched(place))
        if place.workers > 1 and (kind or target is None):
            raise OutputError("several workers write a folder; name one as `out`")
        images = rows.Decoded(found.sources, how, False, say if place.chief else lambda line: None)
        made = computing.shapes(net, blobs, how, images)
        total = computing.size(made, len(found))
        kept = f"in {target}" if target is not None and not kind else "in memory"
        say(f"{', '.join(f'{b} {words.shape(s)}' for b, s in made.items())}: {words.size(total)} {kept}")
        with (bar or _no_bar)("features", len(found)) as step:
            if target is not None and not kind:
                stores = _shards(target, net, how, images, made, place, say, step)
            else:
                stores = [*computing.computed(net, blobs, images, how, step)]
        bad = place.total((images.bad & True).astype(np.int32)) > 0
        if bad.all():
            raise data.DataError(f"{pictures}: none of the {len(found)} pictures can be read")
        names = tuple(map(str, found.sources))
        result = Features(dict(zip(blobs, stores, strict=True)), names, found.labels, found.classes, ~bad)
        if target is not None and place.chief:
            _write(target, kind, result, force)
            say(f"{int((~bad).sum())} pictures, {', '.join(blobs)} in {target}")
        place.barrier()
    return result


def _no_bar(what: str, total: int) -> AbstractContextManager[Callable[[int], object]]:
    return contextlib.nullcontext(lambda done: None)


def _cut(net: Net, blobs: Sequence[str] | None) -> tuple[Net, list[str]]:
    """(`net` with what `blobs` need alone, those): by default what a new head learns from in place of the last layer with weights,
    or where that gives no classes, its first input."""
    if blobs:
        return net.cut(blobs), list(blobs)
    weighted = [node for node in net.nodes if node.layer.blobs()]
    if not weighted:
        raise Caffe2TFError(f"the network '{net.name}' has no layer with weights; name blobs as `outputs`")
    last = weighted[-1]
    try:
        anew, head, _ = plan.with_head(net, (last.shapes[0][1] or 0) + 1, last.layer.name)
        work = plan.make(anew, head, [head])
    except plan.PlanError:
        work = None
    if work and work.base:
        return work.base, list(work.frontier)
    name, version = last.bottoms[0]
    if net.last_versions[name] != version:
        raise Caffe2TFError(f"blob '{name}' is changed by a later layer; name another as `outputs`")
    return net.cut([name]), [name]


def _sorted(path: str, labels_from_names: bool) -> data.Pictures:
    bare = os.path.isdir(path) and not labels_from_names
    if bare and not any(e.is_dir() or ".tfrecord" in e.name for e in os.scandir(path)):
        sources = imaging.find_images([path])
        return data.Pictures(tuple(sorted(sources)), np.full(len(sources), -1, np.int32), ())
    found = data.read(path, labels_from_names)
    names = (s if isinstance(s, str) else "" for s in found.sources)
    return found.take([place for _, place in sorted((name, place) for place, name in enumerate(names))])


def _shards(
    folder: str,
    net: Net,
    how: preprocess.Preprocessing,
    images: rows.Decoded,
    made: computing.Shapes,
    place: Placement,
    say: Callable[[str], object],
    step: computing.Step,
) -> list[Rows]:
    said = computing.about(net, list(made), how, images.sources, "float32")
    shards = computing.layout(folder, said, made, images.shape[0])
    mine = rows.owners(shards.rows, shards.each, place.workers) == place.worker

    def compute(wanted: list[Places]) -> computing.Computed:
        return computing.values(net, list(made), images, how, wanted)

    return [*computing.kept(shards, mine, images.bad, step, say, compute)]


def _write(target: str, kind: str, found: Features, force: bool) -> None:
    good = np.flatnonzero(found.good)
    labelled = bool(found.classes)
    if not kind:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("row", "file", "label", "read"))
        for row, (file, label) in enumerate(zip(found.files, found.labels, strict=True)):
            writer.writerow((row, file, found.classes[label] if labelled else "", int(found.good[row])))
        files.write_text(os.path.join(target, PICTURES), text.getvalue(), force=True)
        return
    names = np.array([found.files[row] for row in good])
    with files.replacing(target, force) as temporary:
        if kind == ".npz":
            arrays: dict[str, Any] = {blob: store[good] for blob, store in found.blobs.items()}
            arrays |= {"labels": found.labels[good], "classes": np.array(found.classes, np.str_), "files": names}
            with open(temporary, "wb") as opened:
                np.savez(opened, **arrays)
        else:
            pa, pq = _arrow()
            columns = {"file": pa.array(names.tolist())}
            if labelled:
                columns["label"] = pa.array([found.classes[label] for label in found.labels[good]])
            for blob, store in found.blobs.items():
                flat = store[good].reshape(len(good), -1)
                columns[blob] = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
            pq.write_table(pa.table(columns), temporary)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise OutputError("a .parquet takes pyarrow: pip install 'caffe2tf[parquet]'; a .npz takes nothing") from None
    return pyarrow, pyarrow.parquet
