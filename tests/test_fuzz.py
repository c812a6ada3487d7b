"""Mutants of every kind of file; every small file that ever escaped; the last guard, and the words of errors."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caffe2tf
from caffe2tf.caffe import upgrade
from caffe2tf.errors import Caffe2TFError, NotEnoughMemory, Unforeseen, UnsupportedLayer, clean, guarded
from caffe2tf.files import records
from tests.fuzz.judging import judge, workplace
from tests.fuzz.kinds import KINDS
from tests.fuzz.soaking import soak, warm
from tests.helpers import GOLDEN, ROOT, inputs, layer, run

CORPUS = sorted((ROOT / "tests" / "fuzz" / "corpus").glob("*/*"))
LIGHT = [name for name, kind in KINDS.items() if not kind.heavy]
CASE = GOLDEN / "layers" / "conv_basic"


# ------------------------------------------------------------------------------------------------ mutants


def told(tallies):
    return {f"{tally.kind}: {what}": count for tally in tallies for what, count in tally.escapes.items()}


def test_five_thousand_mutants_are_read_right_or_refused(tmp_path):
    tallies = soak([(name, 420) for name in LIGHT], 0, tmp_path)
    assert not told(tallies), f"kept in {tmp_path}"
    assert sum(tally.tried for tally in tallies) >= 5000
    for tally in tallies:
        assert tally.right, tally
        assert tally.refused, tally


@pytest.mark.slow
def test_mutants_of_whole_models_and_of_other_seeds(tmp_path):
    heavy = [name for name, kind in KINDS.items() if kind.heavy]
    tallies = soak([*((name, 500) for name in LIGHT), *((name, 60) for name in heavy)], 1, tmp_path)
    assert not told(tallies), f"kept in {tmp_path}"


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_once_escaped_does_so_no_more(path):
    """Without the guard, too: it counts as an escape."""
    kind = KINDS[path.parent.name]
    if kind.heavy:
        pytest.importorskip("tensorflow")
    files = {file.name: file.read_bytes() for file in path.iterdir() if file.name != "WHY"}
    with workplace() as folder:
        warm(kind, folder)
        outcome = judge(kind.read, files, folder)
    assert not outcome.escape, outcome.trace


def test_the_judge_sees_every_sort_of_escape(tmp_path):
    def slow(folder):
        while True:
            pass

    def unforeseen(folder):
        with guarded(folder):
            raise KeyError("x")

    def two_lines(folder):
        raise Caffe2TFError("one", "two")

    def large(folder):
        np.ones(27 << 20)

    def wrong(folder):
        raise AssertionError

    found = {}
    for read in (slow, unforeseen, two_lines, large, wrong, lambda folder: None):
        found[read.__name__] = judge(read, {"x": b""}, tmp_path).escape
    assert found.pop("<lambda>") == ""
    assert found["slow"].startswith("takes more than 2 s")
    assert found["unforeseen"].startswith("KeyError in ")
    assert found["two_lines"].startswith("says no single line")
    assert found["large"] == "takes more than 200 MB"
    assert found["wrong"].startswith("AssertionError")


def test_a_reader_that_escapes_is_found_shrunk_and_kept(tmp_path):
    """The soak as people run it, on a package whose reader is broken."""
    code = (
        "import sys; from caffe2tf.caffe import read; good = read.prototxt.parse\n"
        "def broken(text, message, source, faults):\n"
        "    if chr(92) in text: raise IndexError\n"
        "    return good(text, message, source, faults)\n"
        "read.prototxt.parse = broken\n"
        "from pathlib import Path; from tests.fuzz.soaking import work\n"
        f"work([('prototxt', 200)], 0, (0, 0), Path({str(tmp_path)!r}), Path({str(tmp_path / 'now')!r}))"
    )
    (tmp_path / "now").mkdir()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (kept,) = (tmp_path / "prototxt").iterdir()
    assert (kept / "WHY").read_text().startswith("IndexError")
    assert len((kept / "net.prototxt").read_bytes()) <= 2


# ------------------------------------------------------------------------------------------------ the last guard


@pytest.fixture
def broken(monkeypatch):
    """A package with a mistake in it, which a network meets."""

    def fail(*args):
        raise RuntimeError("a mistake")

    monkeypatch.setattr(upgrade, "_filter_phase", fail)


def test_what_no_reader_foresaw_is_one_line(broken):
    with pytest.raises(Unforeseen) as caught:
        caffe2tf.load(CASE / "net.prototxt")
    expected = f"{CASE / 'net.prototxt'}: damaged or not what it claims (internal: RuntimeError in upgrade.py:"
    assert str(caught.value).startswith(expected)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_the_command_says_it_in_one_line_and_where_with_v(broken, monkeypatch):
    said = run("inspect", CASE / "net.prototxt", code=1).stderr
    assert said.startswith(f"caffe2tf: {CASE / 'net.prototxt'}: damaged or not")
    assert said.count("\n") == 1
    assert "a mistake" in run("inspect", CASE / "net.prototxt", "-v", code=1).stderr
    monkeypatch.setenv("CAFFE2TF_TRACEBACK", "1")
    assert "Traceback" in run("inspect", CASE / "net.prototxt", code=1).stderr


def test_a_mistake_outside_of_reading_is_one_line_too(monkeypatch):
    from caffe2tf.inspection import summary

    monkeypatch.setattr(summary, "summarize", lambda *args: {}["x"])
    said = run("inspect", CASE / "net.prototxt", code=1).stderr
    assert said.startswith("caffe2tf: an input: damaged or not what it claims (internal: KeyError in ")
    assert run("inspect", "--nonsense", code=2).stderr.startswith("Usage")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_guard_lets_through_what_is_no_error(error):
    with pytest.raises(error), guarded("x"):
        raise error


def test_too_little_memory_is_said(monkeypatch):
    from caffe2tf.net import reading

    def large(*args):
        raise MemoryError

    monkeypatch.setattr(reading, "from_source", large)
    with pytest.raises(NotEnoughMemory, match=r"net\.prototxt: needs more memory than there is"):
        caffe2tf.load(CASE / "net.prototxt")


def test_wrong_arguments_are_the_callers_matter():
    for call in (lambda: caffe2tf.load(3), lambda: caffe2tf.load("x", nonsense=1), lambda: caffe2tf.load(b=2)):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(Caffe2TFError, match="`input_shape`"):
        caffe2tf.load(CASE / "net.prototxt", input_shape={"data": ("a", "b")})


# ------------------------------------------------------------------------------------------------ words


@given(st.text(max_size=4000), st.text(max_size=300))
@settings(database=None, max_examples=200)
def test_no_text_makes_an_error_act_or_run_on(text, name):
    said = str(Caffe2TFError(f"x: '{name}' {text}"))
    assert "\n" not in said
    assert len(said) <= 2000
    assert said.isprintable() or not any(ord(character) < 32 for character in said)
    said.encode("utf-8")
    assert clean(said) == said


def test_names_without_end_are_cut_and_lines_stay_apart():
    for name in ("n" * 5000, "n " * 5000):
        said = str(UnsupportedLayer(f"layer '{name}': no", f"layer '{name}'\x1b[2J: two\nlines"))
        assert len(said.split("\n")) == 2
        assert "two\\nlines" in said
        assert "\x1b" not in said
        assert max(map(len, said.split("'"))) <= 200
    path = "/" + "/".join(["folder"] * 20) + "/net.caffemodel"
    assert path in str(Caffe2TFError(f"{path}: is a folder"))


def test_a_table_shows_no_more_of_a_name(tmp_path):
    (tmp_path / "x.prototxt").write_text(inputs(data=(1, 2)) + layer("ReLU", name="n" * 50000))
    said = run("inspect", tmp_path / "x.prototxt").output
    assert "n" * 120 in said
    assert "n" * 200 not in said


# ------------------------------------------------------------------------------------------------ JSON


@pytest.mark.parametrize(
    ("text", "form", "why"),
    [
        ("[1]", dict, "it is a list of 1; takes an object"),
        ('{"a": true}', {"a": int}, "'a' is true; takes a whole number"),
        ('{"a": {"b": [1, "x"]}}', {"a": {"b": [int]}}, "'a.b[1]' is 'x'; takes a whole number"),
        ('{"a": [1]}', {"a": [int, int]}, "'a' is a list of 1; takes a list of 2"),
        ("{}", {"a": int}, "it lacks 'a'"),
        ('{"a": "\\ud800"}', {str: str}, "takes a text"),
        ('{"a": 1.5}', {"?a": (None, int)}, "'a' is 1.5; takes null or a whole number"),
        (f'{{"a": {10**30}}}', {"?a": int}, "takes a whole number"),
        ("[" * 100000, dict, "nested too deep"),
        ("9" * 5000, int, "is no JSON"),
        (b"\xff", int, "is no JSON"),
    ],
)
def test_json_of_another_form_is_refused(text, form, why):
    with pytest.raises(Caffe2TFError) as caught:
        records.parsed(text, form)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_of_the_form_is_taken():
    text = '{"a": [1, 2], "b": null, "c": {"x": 1.5, "y": 2}, "more": [[]]}'
    form = {"a": [int, int], "?b": (None, str), "c": {str: float}, "?d": int}
    assert records.parsed(text, form)["c"] == {"x": 1.5, "y": 2}
