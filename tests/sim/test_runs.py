"""Whole sites in simulated time: each seed is a schedule of faults, and all invariants hold in it."""

import hashlib
import os
import subprocess
import sys

import pytest

from tests.sim.generate import generate
from tests.sim.run import run

FEW, MANY, AT_A_TIME = 100, 2000, 190
STORIES = (
    "from tests.sim.generate import generate;from tests.sim.run import run;"
    "print([run(generate(seed)).story for seed in (3, 11)])"
)


def broken(seeds: range) -> dict[int, list[str]]:
    """What did not hold, by seed: `python -m tests.sim SEED` tells the story."""
    outcomes = {seed: run(generate(seed)).problems for seed in seeds}
    return {seed: problems for seed, problems in outcomes.items() if problems}


def test_all_invariants_hold_in_a_few_schedules() -> None:
    assert broken(range(FEW)) == {}


@pytest.mark.long
@pytest.mark.parametrize("first", range(FEW, MANY, AT_A_TIME))
def test_all_invariants_hold_in_many_schedules(first: int) -> None:
    assert broken(range(first, first + AT_A_TIME)) == {}


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
