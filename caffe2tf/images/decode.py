"""Pictures as files: found, decoded and resized as OpenCV does it, bit for bit."""

import io
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from caffe2tf.arrays.layout import Array
from caffe2tf.errors import ParseError

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]  # (H, W, 3) BGR or (H, W, 1) grey, unless said otherwise
Places = npt.NDArray[np.signedinteger]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")  # an EPS in any of them would start Ghostscript
MOST_PIXELS = 89_478_485  # of a picture: what Pillow warns of; 13 bytes a pixel are taken at most while it is decoded
PIPED_LIMIT = 1 << 28  # bytes on standard input


class Piped(str):
    """The name `-` of the picture that came on standard input, with its bytes as `data`."""

    data: bytes


def read_image(
    path: str | os.PathLike[str] | BinaryIO, grey: bool = False, note: Callable[[str], object] = lambda line: None
) -> Pixels:
    """The picture at `path` as OpenCV's imread gives it: uint8 (H, W, 3) BGR or (H, W, 1), turned as its EXIF says.

    Of an animated GIF the first frame, and `note` is called with a line that says so; transparency is dropped. Raises
    ParseError, one line, for a file that is no picture, is truncated or has more than MOST_PIXELS.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = getattr(path, "name", path)
    try:
        with opened(io.BytesIO(path.data) if isinstance(path, Piped) else path) as image:
            # MPO, a telephone's JPEG with a second view or a thumbnail, is no animation.
            if getattr(image, "is_animated", False) and image.format != "MPO":
                note(f"{name}: has several frames; the first is used")
                image.seek(0)
            kind = image.format
            if grey and kind in ("JPEG", "MPO"):
                image.draft("L", None)  # the Y that it holds
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode == "CMYK":
                pixels = _from_cmyk(np.asarray(image))
                image = Image.fromarray(pixels)
            elif image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            return _grey(image, kind) if grey else np.asarray(image.convert("RGB"))[:, :, ::-1]
    except UnidentifiedImageError:
        raise ParseError(f"{name}: is not a picture that can be read ({', '.join(SUFFIXES)})") from None
    except Exception as error:  # a damaged picture makes Pillow raise whatever its format's code meets first
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ParseError(f"{name}: cannot be read: {reason.splitlines()[0].lower()}") from None


def opened(file: str | os.PathLike[str] | BinaryIO) -> "Image.Image":
    """The picture in `file`, a path or a stream, not decoded yet: of FORMATS alone. Raises what Pillow raises, and ValueError
    for more than MOST_PIXELS."""
    from PIL import Image

    # Of what is odd in a file: what cannot be read is said here, and what has too many pixels is refused.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    image = Image.open(file, formats=FORMATS)
    width, height = image.size
    if width * height > MOST_PIXELS:
        image.close()
        raise ValueError(f"it has {width} x {height} pixels; takes {MOST_PIXELS} at most")
    return image


# Red, green and blue in grey as parts of 2 ** bits, and what is added before the rest is cut off: OpenCV leaves a PNG to libpng,
# which rounds down, converts animated formats with cvtColor, and all others with the older rule of its own decoders (utils.cpp).
_GREYS = {
    "PNG": (9797, 19234, 3737, 15, 0),
    "GIF": (9798, 19235, 3735, 15, 1 << 14),
    "WEBP": (9798, 19235, 3735, 15, 1 << 14),
}
_OLDER_GREY = (4899, 9617, 1868, 14, 1 << 13)


def _grey(image: "Image.Image", kind: str | None) -> Pixels:
    """`image` of the format `kind` as uint8 (H, W, 1)."""
    if image.mode in ("L", "1"):
        return np.asarray(image.convert("L"))[:, :, None]
    *shares, bits, more = _GREYS.get(kind or "", _OLDER_GREY)
    pixels = np.asarray(image.convert("RGB")).astype(np.int32)
    return (pixels @ np.array(shares, np.int32) + more >> bits).astype(np.uint8)[:, :, None]


def _from_cmyk(cmyk: Pixels) -> Pixels:
    """RGB of inverted CMYK, as JPEGs have it, by OpenCV's rule: c = k - (255 - c) * k / 256 (grfmt_base, utils.cpp)."""
    ink = 255 - cmyk.astype(np.int32)
    black = ink[:, :, 3:]
    return np.clip(black - ((255 - ink[:, :, :3]) * black >> 8), 0, 255).astype(np.uint8)


def resize(image: Pixels, height: int, width: int, method: str = "bilinear") -> Pixels:
    """`image` uint8 (H, W, C) at another size, uint8: bilinear as OpenCV's INTER_LINEAR, bit for bit."""
    if image.shape[:2] == (height, width):
        return image
    if method == "nearest_pillow":
        from PIL import Image

        whole = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        return np.asarray(whole.resize((width, height), Image.Resampling.NEAREST)).reshape(height, width, -1)
    # OpenCV's fixed point: weights of 11 bits, across first, 4 bits dropped between (imgproc/src/resize.cpp).
    (left, right), (a, b) = _linear(image.shape[1], width)
    (top, bottom), (c, d) = _linear(image.shape[0], height)
    rows, places = np.unique([top, bottom], return_inverse=True)  # of a large picture, few
    top, bottom = places.reshape(2, -1)
    wide = image[rows]
    across = (wide.take(left, axis=1) * a[:, None] + wide.take(right, axis=1) * b[:, None]) >> 4
    a, b = c[:, None, None], d[:, None, None]
    pixels: Array = ((across[top] * a >> 16) + (across[bottom] * b >> 16) + 2) >> 2
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _linear(n: int, out: int) -> tuple[tuple[Places, Places], tuple[Places, Places]]:
    """((near, far) indices, (near, far) weights of 2048) of each of `out` places among `n`, half-pixel centres."""
    at = ((np.arange(out) + 0.5) * (n / out) - 0.5).astype(np.float32)
    low = np.floor(at).astype(int)
    share = at - low
    weights = np.rint((1 - share) * 2048).astype(np.int32), np.rint(share * 2048).astype(np.int32)
    return (low.clip(0, n - 1), (low + 1).clip(0, n - 1)), weights


def find_images(paths: Iterable[str]) -> list[str]:
    """All picture files that `paths` mean: files as they are, the pictures in folders and the files of globs, sorted;
    `-` is the one on standard input. Raises ParseError for a path that does not exist and for a folder without pictures.
    """
    import glob

    found: list[str] = []
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


def _piped() -> Piped:
    piped = Piped("-")
    piped.data = sys.stdin.buffer.read(PIPED_LIMIT + 1)
    if len(piped.data) > PIPED_LIMIT:
        raise ParseError(f"-: more than {PIPED_LIMIT >> 20} MiB on standard input, which takes one picture")
    return piped
