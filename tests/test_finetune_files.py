"""What finetune replaces, and what a run that dies leaves: the user's files, and results of one run."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.helpers import ROOT, SMALL, run

pytest.importorskip("tensorflow")
pytest.importorskip("sklearn")
from caffe2tf.finetuning import checkpoint, results

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
ONE = (*SMALL, "--layers", "fc8", "--epochs", "1", "--keep", "all", "-q")


@pytest.mark.parametrize(
    "name", ["checkpoint/mine.txt", "tensorboard/mine.txt", "best.keras", "best_saved_model/mine.txt"]
)
def test_what_the_user_keeps_under_our_names_stays(name, here):
    path = here / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    (here / "out" / "notes.txt").write_text("mine too")
    said = run("finetune", *ONE, "--out", "out", "-f", code=1).stderr
    assert f"out/{name.split('/')[0]}: no run of finetune wrote it" in said
    assert said.count("\n") == 1
    assert sorted(str(p.relative_to(here / "out")) for p in (here / "out").rglob("*") if p.is_file()) == sorted(
        [name, "notes.txt"]
    )


def test_force_replaces_results_alone(here):
    run("finetune", *ONE, "--out", "out")
    assert not (here / "out" / "checkpoint").exists()
    for name in ("notes.txt", "tensorboard/notes.txt"):
        (here / "out" / name).write_text("mine")
    run("finetune", *ONE, "--out", "out", "-f")
    assert (here / "out" / "notes.txt").read_text() == "mine"
    assert (here / "out" / "tensorboard" / "notes.txt").read_text() == "mine"
    assert len([p for p in (here / "out" / "tensorboard").iterdir() if "tfevents" in p.name]) == 1
    (here / "out" / "best_saved_model" / "notes.txt").write_text("mine")
    assert "holds notes.txt, which caffe2tf did not write" in run("finetune", *ONE, "--out", "out", "-f", code=1).stderr
    assert (here / "out" / "best.keras").exists()


def test_results_of_two_runs_never_stand_side_by_side(tmp_path):
    """Killed before any step of the placing: old results, none, or new ones; the next placing sets it right."""
    names = ["best.keras", "labels.txt", "history.csv", "settings.json", "recipe.toml"]
    code = (
        "import os, sys\nfrom caffe2tf.finetuning import results\ncount = 0\n"
        "def counted(function):\n    def call(*args, **options):\n        global count\n"
        "        if count == int(sys.argv[2]):\n            os._exit(9)\n        count += 1\n"
        "        return function(*args, **options)\n    return call\n"
        "for name in ('rename', 'replace', 'unlink', 'link', 'rmdir'):\n    setattr(os, name, counted(getattr(os, name)))\n"
        "results.place(sys.argv[1] + '/checkpoint/results', sys.argv[1])\n"
    )

    def stage(folder, words):
        staged = results.staging(str(folder))
        for name in names:
            with open(os.path.join(staged, name), "w") as file:
                file.write(words)
        return staged

    def words(folder):
        return {(folder / name).read_text() for name in names if (folder / name).exists()}

    for step in range(60):
        folder = tmp_path / str(step)
        results.make_folder(folder)
        results.note_board(folder)
        (folder / "checkpoint").mkdir()
        (folder / "checkpoint" / checkpoint.MARKER).touch()
        results.place(stage(folder, "old"), folder)
        (folder / "mine.txt").write_text("mine")
        stage(folder, "new")
        dead = subprocess.run([sys.executable, "-c", code, str(folder), str(step)], env=ENVIRONMENT, cwd=ROOT)
        assert dead.returncode in (0, 9)
        assert len(words(folder)) <= 1
        if (folder / "settings.json").exists():  # by which the folder is known as a model
            assert all((folder / name).exists() for name in names)
        results.check_folder(str(folder), force=True)
        results.place(stage(folder, "new"), folder)
        assert words(folder) == {"new"}
        assert (folder / "mine.txt").read_text() == "mine"
        if dead.returncode == 0:
            break
    assert step > 2 * len(names)


def stopped(out):
    """A run in the folder `out` that was stopped after its first epoch."""
    command = [sys.executable, "-m", "caffe2tf", "finetune", *SMALL, "--layers", "all", "--epochs", "60", "--out", out]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    next(line for line in process.stdout if line.startswith("epoch"))
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[1]
    assert process.returncode == 143, said
    return said


def test_resume_never_starts_anew_without_a_word(here):
    said = stopped("out")
    assert said.splitlines()[-1].startswith("caffe2tf: stopped in stage 1")
    assert "go on with: caffe2tf finetune --resume --out out" in said
    kept = {path: path.read_bytes() for path in (here / "out" / "checkpoint").iterdir() if path.suffix == ".npz"}
    for path, data in kept.items():
        path.unlink()
        assert f"{path.name}: is gone" in run("finetune", "--resume", "--out", "out", code=1).stderr
        path.write_bytes(data[:-100])
        if path.name == "last.npz":
            assert f"{path.name}: is damaged" in run("finetune", "--resume", "--out", "out", code=1).stderr
        path.write_bytes(data)
    assert {path.name for path in kept} == {"last.npz", "best-1.npz"}


def test_a_checkpoint_is_replaced_whole(tmp_path, monkeypatch):
    keep = checkpoint.Checkpoint(str(tmp_path))
    keep.save("last", [], {"epoch": 1})

    def die(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        keep.save("last", [], {"epoch": 2})
    assert keep.load("last") == ([], {"epoch": 1})


def test_the_marker_lists_what_was_written(here):
    run("finetune", *ONE, "--out", "out")
    marker = json.loads((here / "out" / results.MARKER).read_text())
    assert sorted([*marker["entries"], results.MARKER]) == sorted(path.name for path in (here / "out").iterdir())


def test_a_folder_takes_one_run_at_a_time(here):
    """The second is refused in a line, and the first goes on."""
    command = [
        sys.executable,
        "-m",
        "caffe2tf",
        "finetune",
        *SMALL,
        "--layers",
        "all",
        "--epochs",
        "60",
        "--out",
        "out",
    ]
    first = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    next(line for line in first.stdout if line.startswith("epoch"))
    for more in (["--resume"], [*SMALL, "--layers", "all", "-f"]):
        second = run("finetune", *more, "--out", "out", "-q", code=1)
        assert (
            second.stderr
            == "caffe2tf: out: another run writes into it; wait for it, or name another folder with --out\n"
        )
    first.send_signal(signal.SIGTERM)
    assert "go on with" in first.communicate()[1]
    assert not (here / "out" / "checkpoint" / "running").exists()
