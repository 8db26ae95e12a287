"""`python -m tests.sim SEED` tells the story of one run; with `--seeds N` many are run, and those that fail are named."""

from __future__ import annotations

import argparse
import sys
import time

from tests.sim.generate import generate
from tests.sim.run import Outcome, run
from tests.sim.schedule import Schedule
from tests.sim.shrink import fails_alike, shrink


def main() -> int:
    """Exit code 1: something must not have happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=0, help="of the (first) run")
    parser.add_argument("--seeds", type=int, metavar="N", help="run so many, from SEED on")
    parser.add_argument(
        "--shrink", action="store_true", help="leave out what is not needed to fail"
    )
    given = parser.parse_args()
    if given.seeds is not None:
        return _many(range(given.seed, given.seed + given.seeds), shrinks=given.shrink)
    schedule = generate(given.seed)
    outcome = run(schedule)
    if given.shrink and outcome.problems:
        schedule = shrink(schedule, fails_alike(outcome.problems))
        outcome = run(schedule)
    _tell(schedule, outcome)
    return int(bool(outcome.problems))


def _tell(schedule: Schedule, outcome: Outcome) -> None:
    print(schedule, *outcome.story, sep="\n")
    for problem in outcome.problems:
        print(f"FAILED {problem}")


def _many(seeds: range, *, shrinks: bool) -> int:
    failed, began = 0, time.process_time()
    for seed in seeds:
        schedule = generate(seed)
        outcome = run(schedule)
        if outcome.problems:
            failed += 1
            print(f"seed {seed}: {'; '.join(outcome.problems[:3])}", flush=True)
            if shrinks:
                print(shrink(schedule, fails_alike(outcome.problems)), flush=True)
    seconds = time.process_time() - began
    print(
        f"{len(seeds)} schedules from seed {seeds.start} on, {failed} failed,"
        f" {1000 * seconds / max(1, len(seeds)):.0f} ms of CPU each"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
