"""List files of pictures as editors, spreadsheets and scripts leave them."""

import pytest
from PIL import Image

from caffe2tf.classification import labels
from caffe2tf.finetuning import data

FILES = ("a.png", "b.png", "dir/with blank.png", "dir/tab\tin it.png", "comma, quote.png")


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "dir").mkdir()
    for file in FILES:
        Image.new("RGB", (4, 4)).save(tmp_path / file)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.txt", b"a.png 1\nb.png 2\ndir/with blank.png 1\ndir/tab\tin it.png 2\ncomma, quote.png 2\n"),
        ("x.txt", b"a.png\t1\nb.png\t2\ndir/with blank.png\t1\ndir/tab\tin it.png\t2\ncomma, quote.png\t2\n"),
        (
            "x.txt",
            b"\xef\xbb\xbfa.png 1\r\nb.png 2\r\ndir\\with blank.png  1\r\n\r\ndir/tab\tin it.png 2\r\ncomma, quote.png 2",
        ),
        ("x.csv", b'a.png,1\nb.png,2\n"dir/with blank.png",1\n"dir/tab\tin it.png",2\n"comma, quote.png",2\n'),
        (
            "x.csv",
            b'Image,Label\r\na.png,1\r\nb.png,2\r\ndir/with blank.png,1\r\ndir/tab\tin it.png,2\r\n"comma, quote.png",2\r\n',
        ),
        (
            "X.CSV",
            b'\xef\xbb\xbf"label";"id";"file name"\r\n1;9;a.png\r\n2;8;b.png\r\n1;7;dir/with blank.png\r\n2;6;dir/tab\tin it.png\r\n2;5;"comma, quote.png"\r\n',
        ),
        (
            "x.tsv",
            b'path\tclass\na.png\t1\nb.png\t2\ndir/with blank.png\t1\n"dir/tab\tin it.png"\t2\ncomma, quote.png\t2\n',
        ),
        ("x.txt", b'image,label\na.png,1\nb.png,2\ndir/with blank.png,1\ndir/tab\tin it.png,2\n"comma, quote.png",2\n'),
    ],
)
def test_every_way_to_write_a_list_gives_the_same_pairs(name, content, pictures):
    (pictures / name).write_bytes(content)
    found = labels.listed(pictures / name)
    wanted = [(str(pictures / file), label) for file, label in zip(FILES, "12122", strict=True)]
    assert [(path.replace("\\", "/"), label) for path, label in found] == wanted


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (
            "x.csv",
            "a,b,c\na.png,1,2\n",
            "x.csv: its columns are a, b, c; takes one for the picture (path, file, filename)",
        ),
        ("x.csv", "file,label\na.png\n", "x.csv:2: 'a.png'; takes a path and a label in their columns"),
        ("x.csv", "file,label\na.png,\n", "x.csv:2: 'a.png,'; takes a path and a label"),
        ("x.csv", 'file,label\n"a.png,1\n', "x.csv:2: is no table with ',' between its columns"),
        ("x.csv", "file,label\nc.png,1\n", "1 of 1 files are not there: c.png"),
        ("x.txt", "a.png 1\nb.png\n", "x.txt:2: 'b.png'; takes a path and a label"),
    ],
)
def test_a_bad_list_is_one_line(name, content, why, pictures):
    (pictures / name).write_text(content)
    with pytest.raises(labels.LabelError) as caught:
        labels.listed(pictures / name)
    assert why in str(caught.value)


@pytest.mark.parametrize("first", [1, 5])
def test_labels_with_gaps_or_from_one_are_mapped_and_said(first, pictures):
    (pictures / "x.txt").write_text(f"a.png {first}\nb.png 007\ndir/with blank.png 30\n")
    found = data.read(str(pictures / "x.txt"))
    assert found.classes == (str(first), "7", "30")
    assert found.labels.tolist() == [0, 1, 2]
    assert f"the labels are not 0, 1, 2, ...: {first} is class 0, 7 is class 1, 30 is class 2" in found.note
    (pictures / "val.txt").write_text("a.png 30\nb.png 7\n")
    assert data.read(str(pictures / "val.txt"), classes=found.classes).labels.tolist() == [2, 1]
    (pictures / "val.txt").write_text("a.png 2\nb.png 7\n")
    with pytest.raises(data.DataError, match="labels 2 are not among the 3 classes of the training set"):
        data.read(str(pictures / "val.txt"), classes=found.classes)
    (pictures / "plain.txt").write_text("a.png 0\nb.png 1\n")
    assert data.read(str(pictures / "plain.txt")).note == ""
