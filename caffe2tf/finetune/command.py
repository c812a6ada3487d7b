"""`caffe2tf finetune` from data to results."""

import contextlib
import os
from dataclasses import asdict, replace

import numpy as np

from caffe2tf import preprocess
from caffe2tf.finetune import data, plan, results, training
from caffe2tf.model import compiled
from caffe2tf.verification import probabilities

_BATCH = 32


def find_data(path):
    """`path`, or train.txt or train/ in this folder. Raises DataError with what to type."""
    if path is not None:
        return path
    for name in ("train.txt", "train"):
        if os.path.exists(name):
            return name
    raise data.DataError(
        "no data here (neither train.txt nor train/); name it: --data LIST.txt, a folder per class, or TFRecords"
    )


def parts(path, val=None, test=None, shares=(0.8, 0.2), labels_from_names=False, seed=0):
    """(training, validation, test or None) Pictures: from files of their own, or split off."""
    pictures = data.read(path, labels_from_names)
    if val is not None:
        first = pictures, data.read(val, labels_from_names, pictures.classes)
        return *first, data.read(test, labels_from_names, pictures.classes) if test else None
    if test is not None:
        return *data.split(pictures, shares[:2], seed), data.read(test, labels_from_names, pictures.classes)
    split = data.split(pictures, shares, seed)
    return split[0], split[1], split[2] if len(split) > 2 else None


def run(
    net, layers, sets, settings, out, head=None, dropout=None, how=None, strict=False, force=False, say=print, bar=None
):
    """Trains `layers` of `net` on `sets` (training, validation, test or None) and writes results into the folder `out`;
    returns the accuracy on the test set, or on the validation set where there is none.

    `say` gets lines for the user; `bar(what, total)` makes a progress context. Raises Caffe2TFError.
    """
    classes = sets[0].classes
    bar = bar or (lambda what, total: contextlib.nullcontext(lambda done: None))
    results.open_folder(out, force)
    work = plan.make(net, len(classes), layers, head, dropout, settings.seed)
    how = how or preprocess.of(net)[0]
    fresh = "starts fresh" if work.fresh else "keeps its weights"
    say(f"trains {', '.join(work.trained)}; the head '{work.head}' {fresh}; pictures become input as {how}")
    names = ["training", "validation", "test"]
    for name, part in zip(names, sets, strict=True):
        if part is not None:
            counts = part.counts()
            say(
                f"{name}: {len(part)} pictures of {len(classes)} classes ("
                + ", ".join(f"{c} {n}" for c, n in counts.items())
                + ")"
            )
            if name != "test" and not all(counts.values()):
                raise data.DataError(f"the {name} set has no picture of class '{min(counts, key=counts.get)}'")

    loaded = []
    for name, part in zip(names, sets, strict=True):
        if part is None:
            loaded.append((None, None))
            continue
        with bar(f"reading {name} pictures", len(part)) as step:
            images, kept, bad = data.decode(part, how, strict, step)
        for line in bad:
            say(f"skipped: {line}")
        if bad:
            say(f"{len(bad)} of {len(part)} {name} pictures cannot be read and are skipped")
        loaded.append((images, kept))

    cached = work.base is not None and not settings.augment
    examples = []
    for name, (images, kept) in zip(names[:2], loaded, strict=False):
        if cached:
            with bar(f"features of the {name} set", len(images)) as step:
                examples.append(training.Examples(training.features(work, images, how, step), kept.labels))
        else:
            examples.append(training.pictures(images, kept.labels, how, settings.augment))
    if not cached and work.base is not None:
        work = replace(work, base=None, top=work.net, frontier=tuple(work.net.inputs))
    say(
        f"frozen features are {'computed once' if cached else 'not cached: ' + ('augmentation changes them' if settings.augment else 'the first layers train')}"
    )

    def report(row):
        say(
            f"epoch {row['epoch']:3}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}  "
            f"val_loss {row['val_loss']:.4f}  val_accuracy {row['val_accuracy']:.4f}  lr {row['lr']:.3g}"
        )

    with _board(os.path.join(out, "tensorboard")) as watch:
        outcome = training.train(work, settings, *examples, report, watch)
    best, last = work.whole(outcome.best), work.whole(outcome.last)
    named = {
        **asdict(settings),
        "layers": list(layers),
        "head": work.head,
        "dropout": dropout,
        "best_epoch": outcome.best_epoch,
    }
    named["preprocessing"] = asdict(how)
    results.models(out, best, last, classes, named)
    results.history(out, outcome.history)
    images, kept = loaded[2] if sets[2] is not None else loaded[1]
    found = results.evaluation(out, images, kept.labels, _predict(best, images, how), classes)
    judged = "test" if sets[2] is not None else "validation"
    results.page(
        out,
        f"{net.name or 'network'} on {len(classes)} classes, {judged} set",
        named,
        outcome.history,
        found,
        outcome.best_epoch,
    )
    say(f"{judged} accuracy {found['accuracy']:.4f} with the weights of epoch {outcome.best_epoch}; results in {out}")
    return found["accuracy"]


def _predict(net, images, how):
    blob, output = next(iter(net.inputs)), net.outputs[-1]
    run, rows = compiled(net, [output]), []
    for start in range(0, len(images), _BATCH):
        batch = np.stack([how.apply(image) for image in images[start : start + _BATCH]])
        rows.append(probabilities(run({blob: batch})[output]))
    return np.concatenate(rows)


@contextlib.contextmanager
def _board(folder):
    """A function of (epoch, row, weights) that writes scalars and histograms for TensorBoard."""
    import tensorflow as tf

    writer = tf.summary.create_file_writer(folder)

    def watch(epoch, row, weights):
        with writer.as_default(step=epoch):
            for name in ("loss", "accuracy", "val_loss", "val_accuracy", "lr"):
                tf.summary.scalar(name, row[name])
            for path, value in weights.items():
                tf.summary.histogram(path, value)

    try:
        yield watch
    finally:
        writer.close()


def shares(text):
    """(0.8, 0.1, 0.1) from "0.8,0.1,0.1". Raises DataError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise data.DataError(f"--split {text}; takes two or three shares that add up to 1") from None
