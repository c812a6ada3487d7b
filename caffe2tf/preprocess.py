"""How a picture becomes a network's input: Caffe's image transform as data (data_transformer.cpp, io.cpp)."""

import io
import json
import os
import sys
import zipfile
from dataclasses import asdict, dataclass

import numpy as np

from caffe2tf.errors import ParseError

FILE = "caffe2tf.json"  # in a .keras file and in a SavedModel's assets.extra
IMAGENET_MEAN = (104.0, 117.0, 123.0)  # BGR, the rounded channel means of ILSVRC 2012
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
PIPED_LIMIT = 1 << 28  # bytes on standard input
_METHODS = ("bilinear", "nearest_pillow")


class Piped(str):
    """The name `-` of the picture that came on standard input, with its bytes as `data`."""


@dataclass(frozen=True)
class Preprocessing:
    """From 8-bit BGR (H, W, C) to float32 (C, H, W): resize, centre crop, minus `mean`, times `scale`.

    `resize`, `crop`: (height, width) or None; `method`: "bilinear" (half-pixel centres, no antialias: OpenCV's
    INTER_LINEAR) or "nearest_pillow"; `mean`: one value for each channel in BGR order, or (C, H, W); `channels`: 3
    (BGR) or 1 (grey).
    """

    resize: tuple = None
    crop: tuple = None
    mean: tuple = (0.0,)
    scale: float = 1.0
    channels: int = 3
    method: str = "bilinear"

    def apply(self, image):
        """float32 (C, H, W) of `image`, uint8 (H, W, 3) BGR or (H, W, 1) grey."""
        if self.resize is not None:
            image = resize(image, *self.resize, self.method)
        if self.crop is not None:
            (height, width), (h, w) = image.shape[:2], self.crop
            if h > height or w > width:
                raise ParseError(f"crop {h} x {w} of a picture of {height} x {width}; resize it larger or crop less")
            top, left = (height - h) // 2, (width - w) // 2
            image = image[top : top + h, left : left + w]
        mean = np.asarray(self.mean, np.float32)
        image = image.astype(np.float32).transpose(2, 0, 1)
        return (image - (mean if mean.ndim == 3 else mean[:, None, None])) * np.float32(self.scale)

    def load(self, path):
        """`apply` of the picture at `path`. Raises ParseError for what is no picture."""
        return self.apply(read_image(path, grey=self.channels == 1))

    def __str__(self):
        parts = ["grey" if self.channels == 1 else "BGR"]
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


def of(net):
    """(Preprocessing of `net`'s image input, where it comes from): the snapshot's transform_param where one was kept,
    else Caffe's ImageNet habit for inputs of three channels, else the bare size."""
    blob, shape = next((item for item in net.inputs.items() if len(item[1]) == 4), (None, None))
    if blob is None:
        raise ParseError(f"the network '{net.name}' has no image input; its inputs are {dict(net.inputs)}")
    transform = net.transforms.get(blob)
    if transform is None or not (transform.mean_value or transform.HasField("scale") or transform.mean_file):
        return habit(shape), "Caffe's ImageNet habit" if shape[1] == 3 else "the input's size alone"
    size = tuple(shape[2:]) if None not in shape[2:] else None
    resize = (256, 256) if transform.crop_size and shape[1] == 3 and size and max(size) <= 256 else size
    mean = tuple(transform.mean_value)
    source = "the snapshot's transform_param"
    if not mean and transform.mean_file:
        mean, source = IMAGENET_MEAN if shape[1] == 3 else (0.0,), f"{source}, channel means for {transform.mean_file}"
    return Preprocessing(resize, size, mean or (0.0,), transform.scale, shape[1]), source


def habit(shape):
    """What Caffe's users do for an input of `shape` (N, C, H, W): 256 x 256, centre crop, minus (104, 117, 123)."""
    size = tuple(shape[2:]) if None not in shape[2:] else None
    if shape[1] != 3:
        return Preprocessing(size, None, channels=shape[1])
    larger = (256, 256) if size and max(size) <= 256 and min(size) >= 200 else size
    return Preprocessing(larger, size if larger != size else None, IMAGENET_MEAN)


def to_json(net):
    """What goes along with a saved model: {"preprocessing": ..., "source": ...}, or {} without an image input."""
    try:
        how, source = of(net)
    except ParseError:
        return "{}"
    return json.dumps({"preprocessing": asdict(how), "source": source})


def noted_in(path):
    """What `to_json` left in a saved model: in a zip archive (.keras, .tflite) under FILE, or as the file at `path`
    itself; {} where there is none. Raises ParseError where it is damaged."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read(FILE)) if FILE in archive.namelist() else {}
        if os.path.basename(path) != FILE or not os.path.exists(path):
            return {}
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ParseError(f"{path}: its {FILE} cannot be read: {str(error).splitlines()[0]}") from None


def made_of(data, where):
    """The Preprocessing of {field: value}, as `to_json` and finetune's settings write it. Raises ParseError."""
    try:
        how = Preprocessing(**{key: tuple(v) if isinstance(v, list) else v for key, v in data.items()})
        how.apply(np.zeros((*(how.resize or how.crop or (1, 1)), how.channels), np.uint8))
    except (TypeError, ValueError, AttributeError) as error:
        raise ParseError(f"{where}: its preprocessing is not what caffe2tf writes: {error}") from None
    return how


def from_json(data, where):
    """The Preprocessing that a golden set states. Raises ParseError for a method that is not known."""
    method = "nearest_pillow" if "nearest_pillow" in data.get("resize_method", "") else "bilinear"
    if not any(known in data.get("resize_method", "bilinear") for known in _METHODS):
        raise ParseError(f"{where}: resize_method '{data['resize_method']}'; takes one of {', '.join(_METHODS)}")
    crop = None
    if "crop" in data:
        crop = tuple(int(n) for n in data["crop"].split()[-1].split("x"))
    mean = tuple(float(m) for m in data.get("mean_bgr", (0.0,)))
    return Preprocessing(tuple(data["resize"]), crop, mean, data.get("scale", 1.0), 3, method)


# ------------------------------------------------------------------------------------------------ pictures


def read_image(path, grey=False, note=lambda line: None):
    """The picture at `path` as OpenCV's imread gives it: uint8 (H, W, 3) BGR or (H, W, 1), turned as its EXIF says.

    Of an animated GIF the first frame, and `note` is called with a line that says so; transparency is dropped. Raises
    ParseError, one line, for a file that is no picture, is truncated or has more pixels than Pillow's limit.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = getattr(path, "name", path)
    try:
        with Image.open(io.BytesIO(path.data) if isinstance(path, Piped) else path) as image:
            # MPO, a telephone's JPEG with a second view or a thumbnail, is no animation.
            if getattr(image, "is_animated", False) and image.format != "MPO":
                note(f"{name}: has several frames; the first is used")
                image.seek(0)
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode == "CMYK":
                pixels = _from_cmyk(np.asarray(image))
                image = Image.fromarray(pixels)
            elif image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            return _grey(image) if grey else np.asarray(image.convert("RGB"))[:, :, ::-1]
    except UnidentifiedImageError:
        raise ParseError(f"{name}: is not a picture that can be read ({', '.join(SUFFIXES)})") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ParseError(f"{name}: cannot be read: {reason.splitlines()[0].lower()}") from None


def _grey(image):
    return np.asarray(image.convert("L"))[:, :, None]


def _from_cmyk(cmyk):
    """RGB of inverted CMYK, as JPEGs have it, by OpenCV's rule: c = k - (255 - c) * k / 256 (grfmt_base, utils.cpp)."""
    ink = 255 - cmyk.astype(np.int32)
    black = ink[:, :, 3:]
    return np.clip(black - ((255 - ink[:, :, :3]) * black >> 8), 0, 255).astype(np.uint8)


def resize(image, height, width, method="bilinear"):
    """`image` uint8 (H, W, C) at another size, uint8: bilinear as OpenCV's INTER_LINEAR, bit for bit."""
    if image.shape[:2] == (height, width):
        return image
    if method == "nearest_pillow":
        from PIL import Image

        return np.asarray(Image.fromarray(image.squeeze()).resize((width, height), Image.Resampling.NEAREST)).reshape(
            height, width, -1
        )
    # OpenCV's fixed point: weights of 11 bits, across first, 4 bits dropped between (imgproc/src/resize.cpp).
    (left, right), (a, b) = _linear(image.shape[1], width)
    (top, bottom), (c, d) = _linear(image.shape[0], height)
    rows, places = np.unique([top, bottom], return_inverse=True)  # of a large picture, few
    top, bottom = places.reshape(2, -1)
    wide = image[rows]
    across = (wide.take(left, axis=1) * a[:, None] + wide.take(right, axis=1) * b[:, None]) >> 4
    a, b = c[:, None, None], d[:, None, None]
    pixels = ((across[top] * a >> 16) + (across[bottom] * b >> 16) + 2) >> 2
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _linear(n, out):
    """((near, far) indices, (near, far) weights of 2048) of each of `out` places among `n`, half-pixel centres."""
    at = ((np.arange(out) + 0.5) * (n / out) - 0.5).astype(np.float32)
    low = np.floor(at).astype(int)
    share = at - low
    weights = np.rint((1 - share) * 2048).astype(np.int32), np.rint(share * 2048).astype(np.int32)
    return (low.clip(0, n - 1), (low + 1).clip(0, n - 1)), weights


def find_images(paths):
    """All picture files that `paths` mean: files as they are, the pictures in folders and the files of globs, sorted;
    `-` is the one on standard input. Raises ParseError for a path that does not exist and for a folder without pictures.
    """
    import glob

    found = []
    if list(paths).count("-") > 1:
        raise ParseError("-: is given twice; standard input holds one picture")
    for path in paths:
        if path == "-":
            found.append(_piped())
        elif os.path.isdir(path):
            inside = [os.path.join(top, f) for top, _, files in os.walk(path) for f in files]
            pictures = sorted(f for f in inside if f.lower().endswith(SUFFIXES))
            if not pictures:
                raise ParseError(f"{path}: holds no pictures ({', '.join(SUFFIXES)})")
            found.extend(pictures)
        elif os.path.exists(path):
            found.append(path)
        elif any(c in path for c in "*?[") and (
            matches := sorted(filter(os.path.isfile, glob.glob(path, recursive=True)))
        ):
            found.extend(matches)
        else:
            raise ParseError(f"{path}: no such file or folder")
    return found


def _piped():
    piped = Piped("-")
    piped.data = sys.stdin.buffer.read(PIPED_LIMIT + 1)
    if len(piped.data) > PIPED_LIMIT:
        raise ParseError(f"-: more than {PIPED_LIMIT >> 20} MiB on standard input, which takes one picture")
    return piped
