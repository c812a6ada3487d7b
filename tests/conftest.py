"""What several tests need made before they start."""

import os
from pathlib import Path

import pytest

from tests import helpers

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes the fixture `shared` is marked `shared`, before marks choose what runs."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of trained models and photographs, which are not part of the project."""
    assert (helpers.SHARED / "models").is_dir(), f"{helpers.SHARED} holds no models; CAFFE2TF_SHARED names their folder"
    return helpers.SHARED


@pytest.fixture(scope="session")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seeded AlexNet as a .caffemodel."""
    from caffe2tf.samples import networks

    path = tmp_path_factory.mktemp("alexnet") / "bvlc_alexnet.caffemodel"
    networks.write(path)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the network and the pictures of `write_small_set`, to work in."""
    helpers.write_small_set(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
