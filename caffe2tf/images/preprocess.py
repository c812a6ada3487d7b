"""How a picture becomes a network's input: Caffe's image transform as data (data_transformer.cpp, io.cpp)."""

import functools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from caffe2tf.arrays.layout import Floats, OpenShape
from caffe2tf.errors import ParseError
from caffe2tf.files import records
from caffe2tf.images import decode as imaging
from caffe2tf.images import means
from caffe2tf.images.decode import Pixels

if TYPE_CHECKING:
    from caffe2tf.net.net import Net
_SIZE = (None, [int, int])
_FORM = {"?resize": _SIZE, "?crop": _SIZE, "?mean": ([float], [[[float]]]), "?scale": float, "?channels": int}
_FORM |= {"?method": str, "?order": str}
FILE = "caffe2tf.json"  # in a .keras file and in a SavedModel's assets.extra
IMAGENET_MEAN = (104.0, 117.0, 123.0)  # BGR, the rounded channel means of ILSVRC 2012
METHODS = ("bilinear", "nearest_pillow")
Size = tuple[int, int]  # (height, width)
Mean = tuple[float | list[list[float]], ...]


@dataclass(frozen=True)
class Preprocessing:
    """From 8-bit BGR (H, W, C) to float32 (C, H, W): resize, centre crop, minus `mean`, times `scale`.

    `resize`, `crop`: (height, width) or None; `method`: "bilinear" (half-pixel centres, no antialias: OpenCV's
    INTER_LINEAR) or "nearest_pillow"; `mean`: one value for each channel in the order of the input, or (C, H, W) of the
    resized picture or of the crop; `channels`: 3 or 1 (grey); `order`: "BGR" or "RGB".
    """

    resize: Size | None = None
    crop: Size | None = None
    mean: Mean = (0.0,)
    scale: float = 1.0
    channels: int = 3
    method: str = "bilinear"
    order: str = "BGR"

    def apply(self, image: Pixels, corner: Size | None = None) -> Floats:
        """float32 (C, H, W) of `image`, uint8 (H, W, 3) BGR or (H, W, 1) grey; `corner`: (top, left) of another crop."""
        if self.resize is not None:
            image = imaging.resize(image, *self.resize, self.method)
        made: Floats = self.batch(image[None], corner)[0].transpose(2, 0, 1)
        return made

    def pixels(self, picture: str | os.PathLike[str] | BinaryIO) -> Pixels:
        """uint8 (H, W, 3) BGR or (H, W, 1) grey of an encoded picture, at the size of `resize`: what `apply` takes. Raises
        ParseError for what is no picture."""
        image = imaging.read_image(picture, grey=self.channels == 1)
        return image if self.resize is None else imaging.resize(image, *self.resize, self.method)

    def batch(self, images: Pixels, corner: Size | None = None) -> Floats:
        """float32 (N, H, W, C) of resized pictures, uint8 (N, H, W, C): what `apply` makes of each, channels last."""
        (height, width), mean = images.shape[1:3], self._mean
        self.check((height, width))
        if self.crop is not None:
            h, w = self.crop
            top, left = corner or ((height - h) // 2, (width - w) // 2)
            images = images[:, top : top + h, left : left + w]
            if mean.shape[1:] == (height, width):
                mean = mean[:, top : top + h, left : left + w]
        made: Floats = (images[..., ::-1] if self.order == "RGB" else images).astype(np.float32, order="C")
        made -= mean.transpose(1, 2, 0)
        made *= np.float32(self.scale)
        return made

    def check(self, size: Size | None) -> None:
        """Raises ParseError where the crop or the mean does not fit resized pictures of `size`, None for any."""
        if self.crop is not None and size is not None and (self.crop[0] > size[0] or self.crop[1] > size[1]):
            (h, w), (height, width) = self.crop, size
            raise ParseError(f"crop {h} x {w} of a picture of {height} x {width}; resize it larger or crop less")
        mean, seen = self._mean.shape, self.crop or size
        if len(mean) != 3 or mean[0] not in (1, self.channels):
            raise ParseError(f"a mean of shape {mean} for {self.channels} channels")
        if size is not None and mean[1:] not in ((1, 1), size, seen):
            raise ParseError(f"a mean image of {mean[1:]} for a picture of {seen}; takes one of its size")

    @functools.cached_property
    def _mean(self) -> Floats:
        mean = np.asarray(self.mean, np.float32)
        return mean if mean.ndim == 3 else mean[:, None, None]

    @property
    def span(self) -> tuple[float, float]:
        """(least, largest) value that an input can have."""
        ends = (0 - self._mean.max()) * self.scale, (255 - self._mean.min()) * self.scale
        return float(min(ends)), float(max(ends))

    def load(self, path: str | os.PathLike[str]) -> Floats:
        """`apply` of the picture at `path`. Raises ParseError for what is no picture."""
        return self.apply(imaging.read_image(path, grey=self.channels == 1))

    def __str__(self) -> str:
        parts = ["grey" if self.channels == 1 else self.order]
        if self.resize:
            parts.append(f"{self.method.replace('_', ' ')} to {self.resize[0]} x {self.resize[1]}")
        if self.crop:
            parts.append(f"centre crop {self.crop[0]} x {self.crop[1]}")
        if np.any(self.mean):
            mean = np.asarray(self.mean)
            parts.append("minus a mean image" if mean.ndim == 3 else f"minus ({', '.join(f'{m:g}' for m in mean)})")
        if self.scale != 1:
            parts.append(f"times {self.scale:g}")
        return ", ".join(parts)


def of(net: "Net") -> tuple[Preprocessing, str]:
    """(Preprocessing of `net`'s image input, where it comes from): what the user said, else the snapshot's transform_param
    where one was kept, else Caffe's ImageNet habit for inputs of three channels, else the bare size."""
    if net.preprocessing is not None:
        return net.preprocessing, "as said"
    blob, shape = next((item for item in net.inputs.items() if len(item[1]) == 4), ("", ()))
    if not shape:
        raise ParseError(f"the network '{net.name}' has no image input; its inputs are {dict(net.inputs)}")
    transform = net.transforms.get(blob)
    if transform is None or not (transform.mean_value or transform.HasField("scale") or transform.mean_file):
        return habit(shape), "Caffe's ImageNet habit" if shape[1] == 3 else "the input's size alone"
    channels, size = _image(shape)
    resize = (256, 256) if transform.crop_size and channels == 3 and size and max(size) <= 256 else size
    mean = tuple(transform.mean_value)
    source = "the snapshot's transform_param"
    if not mean and transform.mean_file:
        mean, source = IMAGENET_MEAN if channels == 3 else (0.0,), f"{source}, channel means for {transform.mean_file}"
    return Preprocessing(resize, size, mean or (0.0,), transform.scale, channels), source


def habit(shape: OpenShape) -> Preprocessing:
    """What Caffe's users do for an input of `shape` (N, C, H, W): 256 x 256, centre crop, minus (104, 117, 123)."""
    channels, size = _image(shape)
    if channels != 3:
        return Preprocessing(size, None, channels=channels)
    larger = (256, 256) if size and max(size) <= 256 and min(size) >= 200 else size
    return Preprocessing(larger, size if larger != size else None, IMAGENET_MEAN)


def _image(shape: OpenShape) -> tuple[int, Size | None]:
    """(channels, size) of an input of `shape` (N, C, H, W); None for a size that the files leave open."""
    _, channels, height, width = shape
    assert channels is not None, "the wiring refuses an input whose channels nothing tells"
    return channels, None if height is None or width is None else (height, width)


def changed(
    net: "Net",
    resize: Size | Literal["none"] | None = None,
    crop: Size | Literal["none"] | None = None,
    mean: Sequence[float] | str | None = None,
    scale: float | None = None,
    channels: str | None = None,
) -> "Net":
    """`net` with a Preprocessing that differs from `of(net)` where something is said.

    `resize`, `crop`: (height, width), or "none" for as it is; `mean`: one number, or one for each channel in the order of the
    input, a .npy or .binaryproto file, or "none"; `scale`: a factor, after the mean; `channels`: "bgr", "rgb" or "grey".
    Raises ParseError.
    """
    if all(value is None for value in (resize, crop, mean, scale, channels)):
        return net
    size = next((_image(shape)[1] for shape in net.inputs.values() if len(shape) == 4), None)
    return replace(net, preprocessing=differing(of(net)[0], size, resize, crop, mean, scale, channels))


def differing(
    how: Preprocessing,
    size: Size | None,
    resize: Size | Literal["none"] | None = None,
    crop: Size | Literal["none"] | None = None,
    mean: Sequence[float] | str | None = None,
    scale: float | None = None,
    channels: str | None = None,
) -> Preprocessing:
    """`how` where nothing else is said, for a network that takes pictures of `size`, None for any; the rest as `changed` has it.
    Raises ParseError."""
    if channels is not None and (channels == "grey") != (how.channels == 1):
        raise ParseError(f"`channels` {channels}: the network's input has {how.channels} channels")
    said: dict[str, tuple[Any] | None] = {
        "resize": None if resize is None else (None if resize == "none" else tuple(resize),),
        "crop": None if crop is None else (None if crop == "none" else tuple(crop),),
        "mean": None if mean is None else (means.mean(mean, how.channels),),
        "scale": None if scale is None else (float(scale),),
        "order": None if channels in (None, "grey") else (channels.upper(),),
    }
    how = replace(how, **{key: value[0] for key, value in said.items() if value is not None})
    if how.crop is None and crop is None and size and how.resize and how.resize != size:
        how = replace(how, crop=size)
    given = how.crop or how.resize
    if given is None or (size and given != size):
        what = "x".join(map(str, given)) if given else "pictures of any size"
        takes = f"{size[0]}x{size[1]} (height x width)" if size else "one size"
        raise ParseError(f"`resize` and `crop` give {what}; the network takes {takes}")
    how.check(how.resize or given)
    return how


def made_of(data: object, where: str) -> Preprocessing:
    """The Preprocessing of {field: value}, as `to_json` and finetune's settings write it. Raises ParseError."""
    wrong = f"{where}: its preprocessing is not what caffe2tf writes"
    try:
        records.check(data, _FORM)
    except ParseError as error:
        raise ParseError(f"{wrong}: {error}") from None
    assert isinstance(data, dict)
    if strange := [key for key in data if f"?{key}" not in _FORM]:
        raise ParseError(f"{wrong}: '{strange[0]}' is no part of one")
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    how = Preprocessing(**fields)
    sizes = [size for size in (how.resize, how.crop) if size is not None]
    if how.channels not in (1, 3) or how.method not in METHODS or how.order not in ("BGR", "RGB"):
        raise ParseError(f"{wrong}: {how.channels} channels, {how.method}, {how.order}")
    if any(min(size) < 1 or math.prod(size) > imaging.MOST_PIXELS for size in sizes):
        raise ParseError(f"{wrong}: pictures of {' and '.join(f'{h} x {w}' for h, w in sizes)}")
    try:
        finite = math.isfinite(how.scale) and bool(np.isfinite(how._mean).all())
    except ValueError:  # rows of different lengths
        finite = False
    if not finite:
        raise ParseError(f"{wrong}: its mean is no whole image, or it or the scale is more than float32 takes")
    how.check(sizes[0] if sizes else None)
    return how
