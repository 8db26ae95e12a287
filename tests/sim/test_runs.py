"""Whole sites in simulated time: each seed is a schedule of faults, and all invariants hold in it."""

import hashlib
import os
import subprocess
import sys

import pytest

FEW, MANY, AT_A_TIME = 100, 2000, 190
STORIES = (
    "from tests.sim.generate import generate;from tests.sim.run import run;"
    "print([run(generate(seed)).story for seed in (3, 11)])"
)


@pytest.mark.parametrize(
    "first", [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(FEW, MANY, AT_A_TIME))]
)
def test_all_invariants_hold(first: int) -> None:
    """In a process of its own, as no real event loop or thread of another test belongs in it."""
    count = AT_A_TIME if first else FEW
    command = [sys.executable, "-m", "tests.sim", str(first), "--seeds", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_seed_gives_the_same_story_in_every_process() -> None:
    stories = {
        subprocess.run(
            [sys.executable, "-c", STORIES],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(stories) == 1, [hashlib.sha256(story).hexdigest() for story in stories]
    assert len(stories.pop()) > 1000
