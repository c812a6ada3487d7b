"""Pictures as files: found, decoded and resized as OpenCV does it, bit for bit."""

import glob
import heapq
import io
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
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
MOST_PIXELS = 89_478_485  # what Pillow warns of; decoding takes 15 bytes a pixel at most, of a WebP 23
_STRIP = 1 << 16  # pixels that are converted at once
PIPED_LIMIT = 1 << 28  # bytes on standard input
_PORTION = 1 << 16  # names of a folder that are sorted at a time: 15 MB


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
            ImageOps.exif_transpose(image, in_place=True)
            made: Image.Image = image
            if image.mode == "CMYK":
                made = Image.fromarray(_from_cmyk(np.asarray(image)))
            elif image.mode.startswith("I;16") or (image.mode, kind) == ("I", "PNG"):  # Pillow before 10.3
                made = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            return _grey(made, kind) if grey else _rgb(made)[:, :, ::-1]
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
    try:
        image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:  # of twice as many
        raise ValueError(f"it has more than {MOST_PIXELS} pixels") from None
    width, height = image.size
    if width * height > MOST_PIXELS:
        image.close()
        raise ValueError(f"it has {width} x {height} pixels; takes {MOST_PIXELS} at most")
    return image


def _rgb(image: "Image.Image") -> Pixels:
    """`image` as uint8 (H, W, 3)."""
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


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
    weights = np.array(shares, np.int32)
    made = [(rows.astype(np.int32) @ weights + more >> bits).astype(np.uint8) for rows in _strips(_rgb(image))]
    return np.concatenate(made)[:, :, None]


def _strips(pixels: Pixels) -> Iterator[Pixels]:
    """`pixels` some rows at a time: what computes in int32 takes many bytes for each of theirs."""
    rows = max(1, _STRIP // pixels.shape[1])
    return (pixels[start : start + rows] for start in range(0, len(pixels), rows))


def _from_cmyk(cmyk: Pixels) -> Pixels:
    """RGB of inverted CMYK, as JPEGs have it, by OpenCV's rule: c = k - (255 - c) * k / 256 (grfmt_base, utils.cpp)."""

    def convert(rows: Pixels) -> Pixels:
        ink = 255 - rows.astype(np.int32)
        black = ink[:, :, 3:]
        return np.clip(black - ((255 - ink[:, :, :3]) * black >> 8), 0, 255).astype(np.uint8)

    return np.concatenate([convert(rows) for rows in _strips(cmyk)])


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
    """All picture files that `paths` mean, as `each_image` gives them."""
    return list(each_image(paths))


def each_image(paths: Iterable[str]) -> Iterator[str]:
    """The picture files that `paths` mean: files as they are, the pictures in folders and the files of globs, sorted; `-` is the
    one on standard input. Folders are listed while the pictures are asked for, in memory that does not grow with them.

    Raises ParseError, here and now, for a path that does not exist and for a folder without pictures; later for a folder
    inside one that cannot be listed.
    """
    found: list[Iterable[str]] = []
    paths = list(paths)
    if paths.count("-") > 1:
        raise ParseError("-: is given twice; standard input holds one picture")
    for path in paths:
        if path == "-":
            found.append([_piped()])
        elif os.path.isdir(path):
            if next(_inside(path), None) is None:
                raise ParseError(f"{path}: holds no pictures ({', '.join(SUFFIXES)})")
            found.append(_inside(path))
        elif os.path.exists(path):
            found.append([path])
        elif any(c in path for c in "*?[") and (
            matches := sorted(filter(os.path.isfile, glob.glob(path, recursive=True)))
        ):
            found.append(matches)
        else:
            raise ParseError(f"{path}: no such file or folder")
    return itertools.chain.from_iterable(found)


def reads(paths: Iterable[str], target: str) -> bool:
    """Whether what is at `target` is one of the pictures that `paths` mean: a file, or in a folder or a glob of them."""
    if not os.path.exists(target):
        return False
    place = os.path.realpath(target)
    for path in paths:
        if os.path.isdir(path):
            inside = os.path.commonpath([place, os.path.realpath(path)]) == os.path.realpath(path)
            if inside and place.lower().endswith(SUFFIXES):
                return True
        elif os.path.exists(path):
            if os.path.samefile(path, target):
                return True
        elif any(os.path.realpath(match) == place for match in glob.iglob(path, recursive=True)):
            return True
    return False


def _inside(folder: str) -> Iterator[str]:
    """The pictures in `folder` and the folders below it in the order of their whole names: a folder sorts by its name and the
    separator. A link to a folder is not followed."""
    ahead = [(folder, _ordered(folder))]
    while ahead:
        top, names = ahead[-1]
        name = next(names, None)
        if name is None:
            ahead.pop()
        elif name.endswith(os.sep):
            inner = os.path.join(top, name[:-1])
            ahead.append((inner, _ordered(inner)))
        else:
            yield os.path.join(top, name)


def _ordered(folder: str) -> Iterator[str]:
    """The names of pictures and, with a separator, of folders in `folder`, sorted. It is gone through again for every _PORTION of
    them, so that a million takes no more memory than that. Raises ParseError."""
    portion, last = [""] * _PORTION, ""
    while len(portion) == _PORTION:
        try:
            with os.scandir(folder) as entries:
                names = (name for entry in entries if (name := _listed(entry)) and name > last)
                portion = heapq.nsmallest(_PORTION, names)
        except OSError as error:
            raise ParseError(f"{folder}: cannot be listed: {(error.strerror or str(error)).lower()}") from None
        yield from portion
        last = portion[-1] if portion else last


def _listed(entry: "os.DirEntry[str]") -> str | None:
    if entry.is_dir():
        return None if entry.is_symlink() else entry.name + os.sep
    return entry.name if entry.name.lower().endswith(SUFFIXES) else None


def _piped() -> Piped:
    piped = Piped("-")
    piped.data = sys.stdin.buffer.read(PIPED_LIMIT + 1)
    if len(piped.data) > PIPED_LIMIT:
        raise ParseError(f"-: more than {PIPED_LIMIT >> 20} MiB on standard input, which takes one picture")
    return piped
