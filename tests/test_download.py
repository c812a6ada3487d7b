"""Downloads from a server of our own: what comes is checked, what is there is kept, what fails is said."""

import functools
import hashlib
import http.server
import threading

import pytest
from click.testing import CliRunner

from caffe2tf.cli.main import main
from caffe2tf.samples import download

pytest.importorskip("pooch")


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "net.caffemodel").write_bytes(b"weights")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def entry(address, data=b"weights", file="net.caffemodel"):
    return [(f"{address}/{file}", f"sha256:{hashlib.sha256(data).hexdigest()}", file)]


def test_a_file_is_fetched_once(server, tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    (path,) = download.download("net", str(folder), entries=entry(server))
    assert (folder / "net.caffemodel").read_bytes() == b"weights"
    assert path == str(folder / "net.caffemodel")
    gone = [("http://127.0.0.1:9/net.caffemodel", *entry(server)[0][1:])]
    assert download.download("net", str(folder), entries=gone) == [path]


def test_another_file_is_not_kept(server, tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    with pytest.raises(download.DownloadError, match="what came is not the published file"):
        download.download("net", str(folder), entries=entry(server, b"others"))
    assert list(folder.iterdir()) == []


def test_what_is_there_is_not_replaced(server, tmp_path):
    (tmp_path / "net.caffemodel").write_bytes(b"mine")
    with pytest.raises(download.DownloadError, match="is there already and is not the published file"):
        download.download("net", str(tmp_path), entries=entry(server))
    assert (tmp_path / "net.caffemodel").read_bytes() == b"mine"


def test_failures_say_how_to_go_on(server, tmp_path):
    with pytest.raises(
        download.DownloadError, match=r"no connection: offline, or the server is gone\); bring it another way"
    ):
        download.download("net", str(tmp_path), entries=entry("http://127.0.0.1:9"))
    with pytest.raises(download.DownloadError, match="the server answers 404"):
        download.download("net", str(tmp_path), entries=entry(server, file="other"))
    with pytest.raises(download.DownloadError, match="no download 'vgg'; takes one of bvlc_alexnet"):
        download.download("vgg")


def test_command():
    result = CliRunner().invoke(main, ["download", "--list"])
    assert result.exit_code == 0
    assert "bvlc_alexnet  http://dl.caffe.berkeleyvision.org/bvlc_alexnet.caffemodel  sha1:9116a64c" in result.output
    assert result.output.count("golden-images") == 4
    assert CliRunner().invoke(main, ["download"]).exit_code == 2
