"""SSD's boxes: the priors of a feature map, and detections out of scores and offsets."""

import math

import numpy as np

from caffe2tf.caffe.caffe_pb2 import DetectionOutputParameter, LayerParameter, PriorBoxParameter
from caffe2tf.reference.table import FLT_MAX, Array, rule


@rule("PriorBox")
def prior_box(layer: LayerParameter, weights: list[Array], features: Array, image: Array) -> Array:
    """Top (1, 2, places * priors * 4): boxes around each place in parts of the image, then variances.

    Each min_size gives a square, with its max_size the square of the geometric mean, and one box for each aspect ratio
    other than 1. Sizes are cut to whole pixels (prior_box_layer.cpp).
    """
    p, (rows, columns) = layer.prior_box_param, features.shape[2:]
    image_h, image_w = p.img_h or p.img_size, p.img_w or p.img_size
    if not (image_h and image_w):
        image_h, image_w = image.shape[2:]
    step_h, step_w = p.step_h or p.step, p.step_w or p.step
    if not (step_h and step_w):
        step_h, step_w = image_h / rows, image_w / columns
    ratios = [1.0]
    for ratio in p.aspect_ratio:
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios += [ratio, 1 / ratio] if p.flip else [ratio]
    boxes = []
    for h in range(rows):
        for w in range(columns):
            x, y = (w + p.offset) * step_w, (h + p.offset) * step_h
            for index, size in enumerate(map(int, p.min_size)):
                sizes: list[tuple[float, float]] = [(size, size)]
                if p.max_size:
                    sizes.append((math.sqrt(size * int(p.max_size[index])),) * 2)
                sizes += [(size * math.sqrt(r), size / math.sqrt(r)) for r in ratios if abs(r - 1) >= 1e-6]
                for wide, high in sizes:
                    boxes += [(x - wide / 2) / image_w, (y - high / 2) / image_h]
                    boxes += [(x + wide / 2) / image_w, (y + high / 2) / image_h]
    places = np.clip(boxes, 0, 1) if p.clip else np.array(boxes)
    variance = list(p.variance) or [0.1]
    variances = np.tile(variance * 4 if len(variance) == 1 else variance, len(boxes) // 4)
    return np.stack([places, variances])[None]


@rule("PriorBoxClustered")
def prior_box_clustered(layer: LayerParameter, weights: list[Array], features: Array, image: Array) -> Array:
    """Top as PriorBox's, each box of one width and height. Each extent of the image comes from the record or the second
    bottom, each step from its own field or `step`, and where both steps are 0 from the extents (OpenVINO,
    prior_box_clustered.cpp)."""
    p, (rows, columns) = layer.prior_box_param, features.shape[2:]
    extents = np.array([p.img_w or image.shape[3], p.img_h or image.shape[2]], np.float64)
    steps = np.array([p.step_w or p.step, p.step_h or p.step], np.float64)
    if not steps.any():
        steps = extents / (columns, rows)
    boxes = []
    for h, w in np.ndindex(rows, columns):
        centre = (np.array([w, h]) + p.offset) * steps
        halves = (np.divide(size, 2) for size in zip(p.width, p.height, strict=True))
        boxes += [np.concatenate([(centre - half) / extents, (centre + half) / extents]) for half in halves]
    places = np.ravel(boxes)
    if p.clip:
        places = np.minimum(np.maximum(places, 0), 1)
    variances = np.resize(list(p.variance) or [0.1], places.size)
    return np.stack([places, variances])[None]


def _decoded(p: DetectionOutputParameter, prior: Array, variance: Array, offset: Array) -> tuple[float, ...]:
    """A box (x1, y1, x2, y2) from its prior and the network's offset (bbox_util.cpp, DecodeBBox)."""
    shift = offset if p.variance_encoded_in_target else offset * variance
    if p.code_type == PriorBoxParameter.CORNER:
        return tuple(prior + shift)
    x1, y1, x2, y2 = prior
    w, h = x2 - x1, y2 - y1
    if p.code_type == PriorBoxParameter.CORNER_SIZE:
        return tuple(prior + shift * (w, h, w, h))
    x, y = shift[0] * w + (x1 + x2) / 2, shift[1] * h + (y1 + y2) / 2
    w, h = math.exp(shift[2]) * w, math.exp(shift[3]) * h
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union; a box of negative extent has no area (bbox_util.cpp, JaccardOverlap)."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    areas = [0.0 if x2 < x1 or y2 < y1 else (x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)]
    return w * h / (sum(areas) - w * h)


def _best(p: DetectionOutputParameter, boxes: list[tuple[float, ...]], scores: Array) -> list[int]:
    """The boxes of one class that stay, best first: at most top_k candidates above the threshold, and of those the ones
    that overlap none that stayed before by more than nms_threshold, which eta lowers with each that stays until it is no more
    than 0.5 (bbox_util.cpp, ApplyNMSFast)."""
    least = p.confidence_threshold if p.HasField("confidence_threshold") else -FLT_MAX
    order = sorted((i for i in range(len(scores)) if scores[i] > least), key=lambda i: -scores[i])
    kept: list[int] = []
    threshold = p.nms_param.nms_threshold
    for index in order[: p.nms_param.top_k] if p.nms_param.top_k > 0 else order:
        if all(_overlap(boxes[index], boxes[other]) <= threshold for other in kept):
            kept.append(index)
            if p.nms_param.eta < 1 and threshold > 0.5:
                threshold *= p.nms_param.eta
    return kept


@rule("DetectionOutput")
def detection_output(
    layer: LayerParameter, weights: list[Array], loc: Array, conf: Array, prior: Array, *picture: Array
) -> Array:
    """Rows (image, class, score, x1, y1, x2, y2), image by image, class by class, best first.

    Of each image the keep_top_k best of all classes stay. Where no image has any, one row (image, -1, ...) for each
    (detection_output_layer.cpp).
    """
    p, rows = layer.detection_output_param, []
    priors, variances = prior.reshape(2, -1, 4)
    offsets = loc.reshape(len(loc), len(priors), -1, 4)
    scores = conf.reshape(len(loc), -1, p.num_classes)
    for image in range(len(loc)):
        boxes = []
        for one, variance, each in zip(priors, variances, offsets[image], strict=True):
            # One box for all classes, or one for each.
            decoded = [_decoded(p, one, variance, offset) for offset in each]
            boxes.append(decoded * p.num_classes if p.share_location else decoded)
        found = []
        for label in range(p.num_classes):
            if label != p.background_label_id:
                found += [(label, index) for index in _best(p, [own[label] for own in boxes], scores[image, :, label])]
        if -1 < p.keep_top_k < len(found):
            found.sort(key=lambda item: -scores[image, item[1], item[0]])
            found = sorted(found[: p.keep_top_k], key=lambda item: item[0])
        rows += [(image, label, scores[image, index, label], *boxes[index][label]) for label, index in found]
    return np.array(rows or [(image, *[-1.0] * 6) for image in range(len(loc))])[None, None]
