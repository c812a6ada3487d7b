"""The demonstration's page, and when it refuses to start; the whole of it runs in test_readme."""

import io
import re
import signal
from html import unescape

import numpy as np
import pytest
from PIL import Image

from caffe2tf import bundled
from caffe2tf.classification.seen import Seen
from caffe2tf.samples import demo, page
from caffe2tf.verification.compare import LayerCheck, Prediction, Report, compare
from caffe2tf.verification.sets import Expected
from tests.helpers import blocks, pages, run


def report(found, predictions=()):
    """A verification of one blob, of which Caffe computed ones."""
    blob = np.full((1, 4), found, np.float32)
    difference = compare(blob, Expected(np.ones((1, 4), np.float32)))
    check = LayerCheck(("conv1",), "Convolution", "conv1", (1, 4), difference, difference, 1e-5)
    running = {"device": "cpu", "precision": "float32", "backend": "tensorflow"}
    wrong = None if found == 1 else "conv1"
    return Report("net", "set", (check,), tuple(predictions), (), (), 1e-5, "0" * 64, wrong, None, running)


def shown(expected, share=0.5, found=1):
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    seen = Seen(bundled.photograph("flower.jpg"), ((109, "brain coral", share), (599, "honeycomb", 0.1)))
    trained = report(found, [Prediction("flower.jpg", ((expected, 0.5), (599, 0.1)), ((109, share),), 0.01)])
    return page.demonstration(report(1), trained, [seen], page.Head(0.972, *[file.getvalue()] * 3), 20.4)


def test_the_page_is_whole_and_says_what_was_found():
    text = shown(109, 0.5001)
    assert "caffe2tf demo: <span class=PASS>PASS</span>" in text
    assert "<b>97.2%</b>" in text
    assert "Caffe 1.0 says the same; largest difference 1.0e-04" in text
    assert text.count("data:image/png;base64,") == 3
    assert text.count("data:image/jpeg;base64,") == 1
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text


def test_the_commands_on_the_page_are_the_guides():
    (listed,) = re.findall(r"<pre[^>]*>(.*?)</pre>", shown(109), re.DOTALL)
    commands = unescape(listed).replace("\\\n  ", "").splitlines()
    assert len(commands) == 9
    assert set(commands) <= {line for text in pages().values() for line, _ in blocks(text)}


def test_the_page_says_what_is_wrong():
    assert "Caffe 1.0 says another class; largest difference 5.0e-01" in shown(7)
    text = shown(109, found=1.1)
    assert "caffe2tf demo: <span class=FAIL>FAIL</span>" in text
    assert "first wrong layer: conv1" in text


def test_what_is_there_is_not_replaced_and_that_is_said_before_the_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "caffe2tf-demo").mkdir()
    mine = tmp_path / "caffe2tf-demo" / "report.html"
    mine.write_text("mine")
    result = run("demo", code=1)
    assert result.stderr == "caffe2tf: caffe2tf-demo/report.html: exists already; -f/--force replaces it\n"
    assert result.stdout == ""
    mine.unlink()
    mine.mkdir()
    assert "is a folder, and the result is a file" in run("demo", "-f", code=1).stderr


def test_a_file_in_the_place_of_the_folder_is_said_before_the_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "caffe2tf-demo").write_text("mine")
    for args in (["demo"], ["demo", "-f"]):
        result = run(*args, code=1)
        assert result.stderr == (
            "caffe2tf: caffe2tf-demo: is a file, and the page goes into a folder of that name; move it away\n"
        )
    assert (tmp_path / "caffe2tf-demo").read_text() == "mine"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demonstration_that_is_stopped_while_it_trains_leaves_nothing(number, code, tmp_path, monkeypatch):
    from caffe2tf.finetuning import finetune, training

    def stop(*args, **settings):
        raise training.Stopped("stopped in epoch 1", number)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "_alexnet", lambda *args: report(1))
    monkeypatch.setattr(demo, "_squeezenet", lambda *args: (report(1), []))
    monkeypatch.setattr(finetune, "finetune", stop)
    result = run("demo", code=code)
    assert result.stderr == "caffe2tf: stopped; nothing half-written is left\n"
    assert list(tmp_path.iterdir()) == []
