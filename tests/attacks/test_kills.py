"""Writers that die before any step, at any moment and beside each other lose nothing, and what they leave goes."""

import os
import re
import subprocess
import sys

import pytest

from tests.attacks.writers import WRITERS
from tests.helpers import ROOT


def kills(*args):
    """{kind: (kills, old, new, resumed)}, of which none lost anything."""
    command = [sys.executable, "-m", "tests.attacks.kills", *map(str, args)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    rows = [line.split() for line in done.stdout.splitlines() if re.search(r"\d", line)]
    return {kind: tuple(map(int, counts[:-1])) for kind, *counts in rows}


QUICK = ("npz", "safetensors", "checkpoint")
MINUTES = (
    "savedmodel",
    "tflite",
)  # `python -m tests.attacks.kills --steps savedmodel tflite`; they are replaced as the others are


def by_step(*kinds):
    found = kills("--steps", *kinds)
    assert sorted(found) == sorted(kinds)
    for number, old, new, _ in found.values():
        assert number > 8
        assert old
        assert new


def test_killed_before_any_step():
    by_step(*QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind not in (*QUICK, *MINUTES, "finetune")])
def test_killed_before_any_step_of_every_kind(kind):
    by_step(kind)


@pytest.mark.slow
def test_killed_at_any_moment():
    found = kills("--count", 14, "--seed", 1)
    assert sum(number for number, *_ in found.values()) == 14
    assert list(found) == list(WRITERS)


@pytest.mark.slow
def test_two_processes_that_write_one_name_of_any_kind():
    assert list(kills("--both")) == list(WRITERS)
