"""The survey counts what becomes of texts; on those of the world its shares are held."""

import tarfile

import pytest

from tests.bench import survey
from tests.helpers import inputs, layer

DATA = inputs(data=(1, 3, 8, 8))


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    parts = {
        "a+one__deploy": [DATA, layer("ReLU")],
        "a+one__train_val": [DATA, layer("Warp"), layer("Convolution", tops=["c"], name="c")],
        "b+two__test": ['layer { name: "d" type: "Data" top: "data" }', layer("ReLU")],
        "b+two__train": ["layer {"],
        "c+three__deploy": [DATA, layer("Warp", tops=["w"], name="w"), layer("Warp", bottoms=["w"], name="x")],
        "c+three__net": [layer("ReLU", bottoms=["nowhere"])],
    }
    for name, lines in parts.items():
        (folder / f"{name}.prototxt").write_text("\n".join(lines))
    return folder


def test_every_text_has_one_verdict(texts):
    found = {text.file.removesuffix(".prototxt"): text for text in survey.survey(str(texts))}
    assert {name: text.verdict for name, text in found.items()} == {
        "a+one__deploy": "loads",
        "a+one__train_val": "refused by type",
        "b+two__test": "needs only an input shape",
        "b+two__train": "does not parse",
        "c+three__deploy": "refused by type",
        "c+three__net": "fails as net",
    }
    assert survey.share(list(found.values())) == pytest.approx(2 / 6)
    lines = survey.table(list(found.values()))
    assert lines[1].split() == ["texts", "6", "4"]
    assert any(line.split() == ["2", "1", "2", "type", "Warp"] for line in lines)


def test_an_archive_is_read_as_its_folder_and_nothing_leaves_it(texts, tmp_path):
    path = tmp_path / "texts.tar.xz"
    with tarfile.open(path, "w:xz") as archive:
        for file in texts.iterdir():
            archive.add(file, f"../../{file.name}")
        archive.add(texts, "a.prototxt")
    with survey.folder(str(path)) as folder:
        assert len(survey.survey(folder)) == 6
    assert sorted(file.name for file in tmp_path.iterdir()) == ["texts", "texts.tar.xz"]


@pytest.mark.slow
def test_most_texts_of_the_world_are_read(shared):
    with survey.folder(str(shared / "survey" / "texts.tar.xz")) as folder:
        found = survey.survey(folder)
    assert len(found) == 663
    assert survey.share(found) >= 0.94
    assert not [text for text in found if text.verdict == "fails as net" and not text.reasons]
