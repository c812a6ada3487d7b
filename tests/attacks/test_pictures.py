"""What pictures take of memory: those that claim many pixels nothing, others what decode.py says, seen by the system's own count."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from caffe2tf.images import decode
from tests.helpers import ROOT

_SIDE = 20_000
_READ = """
import json, sys
from PIL import Image, features
from caffe2tf.errors import ParseError
from caffe2tf.images import decode

def memory(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(name))

if sys.argv[1] == "unguarded":
    Image.MAX_IMAGE_PIXELS = None  # as programs set it that have large pictures of their own
found = {}
for path in sys.argv[2:]:
    for turn in range(2):  # the first loads the format's code
        before, said = memory("VmRSS"), ""
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        try:
            picture = decode.read_image(path)
        except ParseError as error:
            said = str(error)
        taken = memory("VmHWM") - before
        picture = None
    found[path] = said, taken
print(json.dumps(found))
"""


def measured(paths, how="guarded"):
    """{path: (what was said, bytes that reading it took at most)}, in a process of its own."""
    if not sys.platform.startswith("linux"):
        pytest.skip("another system than Linux counts otherwise")
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is the system's at once
    command = [sys.executable, "-c", _READ, how, *map(str, paths)]
    return json.loads(
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=environment).stdout
    )


def small(kind, **options):
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 40)).save(file, kind, **options)
    return bytearray(file.getvalue())


def png():
    data = small("PNG")
    data[16:24] = struct.pack(">II", _SIDE, _SIDE)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return data


def jpeg(**options):
    data = small("JPEG", **options)
    at = data.index(b"\xff\xc2" if options else b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", _SIDE, _SIDE)
    return data


def gif():
    data = small("GIF")
    data[6:10] = struct.pack("<HH", _SIDE, _SIDE)
    return data


def gif_with_a_large_frame():
    data = small("GIF")
    at = data.index(b",", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data[at + 5 : at + 9] = struct.pack("<HH", _SIDE, _SIDE)
    return data


def bmp():
    data = small("BMP")
    data[18:26] = struct.pack("<ii", _SIDE, _SIDE)
    return data


def tiff(**options):
    data = small("TIFF", **options)
    (start,) = struct.unpack_from("<I", data, 4)
    for at in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12):
        if struct.unpack_from("<H", data, at)[0] in (256, 257):
            data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, _SIDE)
    return data


def webp():
    """16,383 on a side are the most that WebP has."""
    data = small("WEBP", lossless=True)
    at = data.index(b"VP8L") + 9
    (head,) = struct.unpack_from("<I", data, at)
    data[at : at + 4] = struct.pack("<I", head | (1 << 28) - 1)
    return data


def animated_webp():
    data = small("WEBP", save_all=True, append_images=[Image.new("RGB", (16, 16))])
    at = data.index(b"VP8X") + 12
    data[at : at + 6] = 2 * (16_382).to_bytes(3, "little")
    return data


CLAIMING = {
    "x.png": png(),
    "x.jpg": jpeg(),
    "progressive.jpg": jpeg(progressive=True),
    "x.gif": gif(),
    "frame.gif": gif_with_a_large_frame(),
    "x.bmp": bmp(),
    "x.tif": tiff(),
    "packed.tif": tiff(compression="tiff_deflate"),
    "x.webp": webp(),
    "animated.webp": animated_webp(),
}


@pytest.mark.parametrize("how", ["guarded", "unguarded"])
def test_a_picture_that_claims_400_million_pixels_takes_no_memory(how, tmp_path):
    for name, data in CLAIMING.items():
        (tmp_path / name).write_bytes(data)
    for path, (said, taken) in measured(sorted(tmp_path.iterdir()), how).items():
        assert f"{decode.MOST_PIXELS}" in said, (path, said)
        assert taken < 4 << 20, (path, taken)


@pytest.mark.slow
def test_bytes_that_a_pixel_takes(tmp_path):
    """At most 15, and 23 of a WebP, whose decoder keeps two of the picture."""
    side = 1000
    noise = np.random.RandomState(0).randint(0, 256, (100, 100, 4)).astype(np.uint8)
    clear = Image.fromarray(np.tile(noise, (side // 100, side // 100, 1)))
    turned = Image.Exif()
    turned[0x112] = 6
    clear.save(tmp_path / "x.webp")
    clear.save(tmp_path / "x.png")
    picture = clear.convert("RGB")
    picture.save(tmp_path / "x.jpg", exif=turned)
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg")
    picture.save(tmp_path / "x.gif")
    picture.save(tmp_path / "x.bmp")
    picture.save(tmp_path / "x.tif", compression="tiff_deflate")
    picture.convert("L").convert("I;16").save(tmp_path / "x16.png")
    for path, (said, taken) in measured(sorted(tmp_path.iterdir())).items():
        assert said == ""
        assert taken / side**2 < (25 if path.endswith("webp") else 16), path
