"""The README's recipes on trained models and slices of real pictures: each command as it stands there, with its words."""

import re
import shlex
import shutil

import pytest
from click.testing import CliRunner
from PIL import Image

from caffe2tf.cli.main import main
from tests import picture
from tests.helpers import README, ROOT, assert_prints, blocks

pytest.importorskip("tensorflow")
pytest.importorskip("sklearn")

RECIPES = blocks("bash")
FLOWERS, LIKE = 3, 12  # pictures of each flower, of each animal


@pytest.fixture(scope="module")
def shop(tmp_path_factory, alexnet, shared):
    """A folder as the recipes expect it, with few of the pictures."""
    folder = tmp_path_factory.mktemp("shop")
    model = shared / "models" / "squeezenet_v1.0"
    shutil.copy(model / "squeezenet_v1.0.caffemodel", folder)
    shutil.copy(model / "deploy.prototxt", folder / "squeezenet_v1.0.prototxt")
    shutil.copy(ROOT / "tests" / "networks" / "alexnet_plain.prototxt", folder)
    shutil.copy(shared / "images" / "llama.jpeg", folder)
    (folder / "photographs").mkdir()
    lines = []
    for path in sorted((shared / "images").glob("n0*"))[:8]:
        shutil.copy(path, folder / "photographs")
        lines.append(f"photographs/{path.name} {path.name.split('_')[0]}\n")
    (folder / "val.txt").write_text("".join(lines))
    for kind in sorted((shared / "flowers17").iterdir()):
        (folder / "flowers" / kind.name).mkdir(parents=True)
        for path in sorted(kind.iterdir())[:FLOWERS]:
            shutil.copy(path, folder / "flowers" / kind.name)
    (folder / "cats_dogs").mkdir()
    listed = {"train.txt": [], "val.txt": []}
    for label, kind in enumerate(("cat", "dog")):
        for index, path in enumerate(sorted((shared / "cats_dogs").glob(f"{kind}.*.jpg"))[:LIKE]):
            shutil.copy(path, folder / "cats_dogs")
            listed["val.txt" if index % 4 == 3 else "train.txt"].append(f"{path.name} {label}\n")
    for name, text in listed.items():
        (folder / "cats_dogs" / name).write_text("".join(text))
    records(folder / "landuse", sorted((folder / "flowers").iterdir())[:3])
    (folder / "bvlc_alexnet.caffemodel").symlink_to(alexnet)
    yield folder
    shutil.rmtree(folder)  # gigabytes


def records(folder, kinds):
    """TFRecords of aerial pictures' kind: TIFF, ten for each class."""
    import io

    import tensorflow as tf

    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "train.tfrecord-00000-of-00001")) as writer:
        for label, kind in enumerate(kinds):
            paths = sorted(kind.iterdir())
            for index in range(10):
                image = Image.open(paths[index % len(paths)])
                encoded = io.BytesIO()
                (image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if index >= len(paths) else image).save(
                    encoded, "TIFF"
                )
                feature = {
                    "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded.getvalue()])),
                    "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def test_recipes_are_there():
    assert len(RECIPES) >= 10


@pytest.mark.parametrize("index", range(len(RECIPES)), ids=[f"{i}-{line[:60]}" for i, (line, _) in enumerate(RECIPES)])
def test_recipe(index, shop, monkeypatch):
    """In their order: later ones use what earlier ones leave."""
    line, shown = RECIPES[index]
    monkeypatch.chdir(shop)
    result = CliRunner().invoke(main, shlex.split(line)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    if shown:
        # Pictures are a slice here, so figures differ where something was trained.
        assert_prints(shown, result.stdout, figures="finetune" not in line)


def test_every_command_is_in_some_recipe():
    lines = [line for line, _ in RECIPES] + [line for line, _ in blocks("sh")]
    used = {shlex.split(line)[1] for line in lines}
    assert set(main.commands) - used <= {"download", "demo"}
    assert "caffe2tf download" in README


def test_the_picture_of_a_terminal_is_what_is_printed(shop):
    from html import unescape

    from rich.text import Text

    shown = unescape(re.sub("<[^>]+>", " ", picture.TARGET.read_text(encoding="utf-8"))).replace("\xa0", " ")
    for line in Text.from_ansi(picture.printed(shop)).plain.splitlines():
        for word in re.findall(r"[A-Za-z]\w+|\d[\d,]+", line):
            assert word in shown, line
