"""Ten crops of a picture, whose scores are averaged: Caffe's oversampling (python/caffe/io.py, classifier.py)."""

from dataclasses import replace

import numpy as np

from caffe2tf.arrays.layout import Floats
from caffe2tf.images import decode as imaging
from caffe2tf.images.decode import Pixels
from caffe2tf.images.preprocess import Preprocessing

COUNTS = (1, 10)  # of crops that a picture may be seen in


class Ten:
    """From 8-bit (H, W, C) to float32 (10, C, h, w): what `how` makes of the corners of the resized picture (top left, top
    right, bottom left, bottom right), of its centre, and of the mirror images of these five, in this order.

    The mean is subtracted from the mirrored crop, as pycaffe's Classifier does it; of a mean image as large as the resized
    picture, which only the data layers take, the part below the crop is mirrored with it (data_transformer.cpp).
    """

    def __init__(self, how: Preprocessing) -> None:
        self._how, self._resized, self._cut = how, replace(how, resize=None), replace(how, resize=None, crop=None)
        self._mean = np.shape(how.mean)[1:]

    def __call__(self, image: Pixels) -> Floats:
        """Raises ParseError for a picture that is smaller than the crop."""
        if self._how.resize is not None:
            image = imaging.resize(image, *self._how.resize, self._how.method)
        size = height, width = image.shape[:2]
        self._resized.check(size)
        h, w = self._how.crop or size
        corners = [(y, x) for y in (0, height - h) for x in (0, width - w)] + [((height - h) // 2, (width - w) // 2)]
        if self._mean == size != (h, w):
            made = np.stack([self._resized.apply(image, corner) for corner in corners])
            return np.concatenate([made, made[..., ::-1]])
        crops = [image[y : y + h, x : x + w] for y, x in corners]
        return np.stack([self._cut.apply(crop) for crop in crops + [crop[:, ::-1] for crop in crops]])
