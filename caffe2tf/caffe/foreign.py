"""What a file is, told by its first bytes: text, or something that is often taken for a file of Caffe's."""

import os

from caffe2tf.errors import ParseError

FOREIGN = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself; fetch it with 'git lfs pull'"),
    (b"\x89HDF\r\n", "is HDF5; expected protobuf (Caffe's snapshot_format: BINARYPROTO)"),
    (b"PK\x03\x04", "is a zip archive; unpack it first"),
    (b"\x1f\x8b", "is gzip data; unpack it first"),
    (b"\x93NUMPY", "is a NumPy file, expected one of Caffe's"),
)
_WRITTEN = bytes({*range(32, 256), *b"\t\n\v\f\r\x1a"} - {127})


def refuse(path: str | os.PathLike[str], head: bytes) -> None:
    """Raises ParseError where `head`, the first bytes of the file at `path`, are those of no file of Caffe's."""
    for magic, why in FOREIGN:
        if head.startswith(magic):
            raise ParseError(f"{path}: {why}")
    start = head.lstrip()[:64].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ParseError(f"{path}: is a web page (a download that failed?), expected a file of Caffe's")


def is_text(head: bytes) -> bool:
    """Whether bytes are text in an encoding that has ASCII in it (UTF-8, Latin-1, GBK): without control characters."""
    return not head.translate(None, _WRITTEN)
