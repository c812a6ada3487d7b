"""MTCNN, a chain of three networks that finds faces (Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded
Convolutional Networks, 2016): proposals at all scales, refined twice.

`python examples/faces.py FOLDER PICTURE` prints the faces in a picture, as score, corners and five points (eyes, nose, ends of
the mouth) in its pixels; FOLDER holds det1 to det3, each .prototxt and .caffemodel.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import caffe2tf

SMALLEST = 40  # pixels of a face's side
LEAST = 0.6, 0.7, 0.7  # scores that the three networks ask for


def load(folder):
    """[the three models]. The first takes pictures of any size."""
    return [
        caffe2tf.to_keras(caffe2tf.load(Path(folder) / f"det{n}.prototxt", Path(folder) / f"det{n}.caffemodel"))
        for n in (1, 2, 3)
    ]


def fed(pictures):
    """Arrays (H, W, RGB) as the networks take them: -1 to 1, and turned over their diagonal, since they were trained on Matlab's
    arrays, whose columns come first."""
    return ((np.stack(pictures).astype(np.float32) - 127.5) / 128).transpose(0, 2, 1, 3)


def best(boxes, scores, most, inside=False):
    """Indices of the boxes that overlap no better one by more than `most` of both together, or with `inside` of the smaller."""
    order, kept = np.argsort(-scores), []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first)
        shared = np.minimum(boxes[first, 2:], boxes[rest, 2:]) - np.maximum(boxes[first, :2], boxes[rest, :2])
        shared = shared.clip(0).prod(1)
        whole = np.minimum(areas[first], areas[rest]) if inside else areas[first] + areas[rest] - shared
        order = rest[shared / whole <= most]
    return np.array(kept, int)


def moved(boxes, offsets):
    """Boxes moved by `offsets`, parts of their sides."""
    return boxes + offsets * np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def cut(picture, boxes, size):
    """The parts of a picture in the squares around boxes, at `size` x `size`, black beyond its edges; and these squares."""
    half = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) / 2
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    squares = np.concatenate([centre - half, centre + half], 1)
    parts = [
        picture.transform((size, size), Image.Transform.EXTENT, tuple(s), Image.Resampling.BILINEAR) for s in squares
    ]
    return [np.asarray(part) for part in parts], squares


def proposals(model, picture):
    """(boxes, scores) of the first network, which sees windows of 12 x 12, two pixels apart, at every scale."""
    boxes, scores, scale = [np.zeros((0, 4))], [np.zeros(0)], 12 / SMALLEST
    while min(picture.size) * scale >= 12:
        small = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BILINEAR)
        offsets, chances = (np.asarray(found)[0] for found in model(fed([small]), training=False))
        places = np.argwhere(chances[..., 1] > LEAST[0])  # x, y
        score = chances[places[:, 0], places[:, 1], 1]
        windows = np.concatenate([2 * places, 2 * places + 12], 1) / scale
        kept = best(windows, score, 0.5)
        boxes.append(moved(windows, offsets[places[:, 0], places[:, 1]])[kept])
        scores.append(score[kept])
        scale *= 0.709  # halves the area
    boxes, scores = np.concatenate(boxes), np.concatenate(scores)
    kept = best(boxes, scores, 0.7)
    return boxes[kept], scores[kept]


def faces(models, picture):
    """[(score, (left, top, right, bottom), five (x, y))] of a PIL picture in RGB, the best first."""
    boxes, scores = proposals(models[0], picture)
    points = np.zeros((len(boxes), 10))
    for model, size, least in zip(models[1:], (24, 48), LEAST[1:], strict=True):
        if not len(boxes):
            return []
        parts, squares = cut(picture, boxes, size)
        offsets, *marks, chances = (np.asarray(found) for found in model(fed(parts), training=False))
        sure = chances[:, 1] > least
        boxes, scores = moved(squares, offsets)[sure], chances[sure, 1]
        if marks:
            points = np.tile(squares[:, :2], (1, 5)).reshape(-1, 5, 2)
            points = (
                points + marks[0].reshape(-1, 2, 5).transpose(0, 2, 1) * (squares[:, 2:] - squares[:, :2])[:, None]
            )[sure]
        kept = best(boxes, scores, 0.7, inside=size == 48)
        boxes, scores, points = boxes[kept], scores[kept], points[kept] if marks else points
    return [(float(s), tuple(b.tolist()), p.tolist()) for s, b, p in zip(scores, boxes, points, strict=True)]


if __name__ == "__main__":
    for score, box, points in faces(load(sys.argv[1]), Image.open(sys.argv[2]).convert("RGB")):
        print(
            f"{score:.4f}  box", *(f"{side:.0f}" for side in box), " points", *(f"{x:.0f},{y:.0f}" for x, y in points)
        )
