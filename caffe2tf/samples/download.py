"""Published models and their golden photographs, fetched once, checked by digest, and kept."""

import contextlib
import os
from collections.abc import Sequence

from caffe2tf import bundled
from caffe2tf.errors import Caffe2TFError
from caffe2tf.files import replacing as files
from caffe2tf.verification import golden as goldens

# name -> (address, digest, file name): sources and digests as the model zoo and the golden sets state them.
_MODELS = {
    "bvlc_alexnet": (
        "http://dl.caffe.berkeleyvision.org/bvlc_alexnet.caffemodel",
        "sha1:9116a64c0fbe4459d18f4bb6b56d647b63920377",
        "bvlc_alexnet.caffemodel",
    ),
    "bvlc_reference_caffenet": (
        "http://dl.caffe.berkeleyvision.org/bvlc_reference_caffenet.caffemodel",
        "sha1:4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",
        "bvlc_reference_caffenet.caffemodel",
    ),
    "bvlc_googlenet": (
        "http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel",
        "sha1:405fc5acd08a3bb12de8ee5e23a96bec22f08204",
        "bvlc_googlenet.caffemodel",
    ),
}
IMAGES = "golden-images"
Entry = tuple[str, str, str]  # address, digest, file name


class DownloadError(Caffe2TFError):
    """A file that cannot be fetched, or that is not what its digest says."""


def catalogue() -> dict[str, list[Entry]]:
    """{name: [(address, digest, file name), ...]} of all that can be fetched."""
    photographs = goldens.load(os.path.join(bundled.home(), "bvlc_alexnet")).photographs
    pictures = [(photo.url, f"sha256:{photo.sha256}", photo.file) for photo in photographs]
    return {**{name: [entry] for name, entry in _MODELS.items()}, IMAGES: pictures}


def download(
    name: str,
    folder: str | os.PathLike[str] = ".",
    progress: bool = False,
    entries: Sequence[Entry] | None = None,
) -> list[str]:
    """Fetches `name`, one of `catalogue()`, into `folder` and returns the paths; a file that is there with its digest is not
    fetched again. `progress` draws a bar on stderr; `entries` are other files than the catalogue's, as it states them.

    Raises DownloadError with the address and the digest, so that the file can be brought another way.
    """
    import pooch

    if entries is None:
        known = catalogue()
        if name not in known:
            raise DownloadError(f"no download '{name}'; takes one of {', '.join(known)}")
        entries = known[name]
    pooch.get_logger().setLevel("ERROR")
    paths: list[str] = []
    for address, digest, file in entries:
        path = os.path.join(folder, file)
        if os.path.exists(path) and not pooch.hashes.hash_matches(path, digest):
            raise DownloadError(
                f"{path}: is there already and is not the published file ({digest}); move it away first"
            )
        paths.append(path)
        if os.path.exists(path):
            continue
        with contextlib.suppress(OSError):  # what cannot be made is said below
            os.makedirs(folder, exist_ok=True)
        with files.replacing(path, False) as temporary:
            _retrieve(address, digest, temporary, path, progress)
    return paths


def _retrieve(address: str, digest: str, temporary: str, path: str, progress: bool) -> None:
    """Fetches into the file `temporary`, which becomes `path`."""
    import pooch
    import requests

    folder, name = os.path.split(temporary)
    try:
        fetcher = pooch.HTTPDownloader(progressbar=progress, timeout=30)
        pooch.retrieve(address, digest, name, folder, downloader=fetcher)
    except ValueError:
        raise DownloadError(f"{address}: what came is not the published file ({digest}); nothing was kept") from None
    except (requests.exceptions.RequestException, OSError) as error:
        raise DownloadError(
            f"{address}: cannot be fetched ({_reason(error)}); bring it another way and put it at {path}, "
            f"its digest is {digest}"
        ) from None


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.exceptions.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code}"
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in 30 seconds"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "no connection: offline, or the server is gone"
    return getattr(error, "strerror", None) or type(error).__name__
