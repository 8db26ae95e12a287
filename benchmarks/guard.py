"""`python -m benchmarks.guard [BASE]`: what a check, a hit and a fill cost in this tree, and in another commit.

Both mirrors run at the same time and are measured in turns; medians count. It fails where CPU rises by more than 15 %, or the
number of Python calls that a request makes by more than 3 %.
"""

import argparse
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.bench import Bench
from benchmarks.clients import Clients, Plan, ask, get
from benchmarks.origin import MB
from benchmarks.report import show
from benchmarks.results import Results
from benchmarks.rows import checks
from benchmarks.rows.growth import PATH, SMALL
from benchmarks.servers import HOST, MIRROR, ROOT, START, Server, path_of

ROUNDS = 7
CPU, CALLS = 1.15, 1.03
"""Of the base's median, what is still allowed."""
CHECK, HIT, FILL = "CPU us a check", "CPU us a hit", "CPU s a filled GB"
CHECK_CALLS, HIT_CALLS = "calls a check", "calls a hit"
LIMITS = {CHECK: CPU, HIT: CPU, FILL: CPU, CHECK_CALLS: CALLS, HIT_CALLS: CALLS}
FILLED = 64 * MB
COUNTED = 300
"""Requests, one after the other, whose Python calls are counted."""
COUNT = """
import itertools, pathlib, signal, sys, threading
calls = itertools.count()
def seen(frame, event, argument):
    if event == "call":
        next(calls)
sys.setprofile(seen)
threading.setprofile(seen)
signal.signal(signal.SIGUSR2, lambda *_: pathlib.Path("{file}").write_text(repr(calls)))
"""

Values = Mapping[str, Sequence[float]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("base", nargs="?", default="HEAD~1", metavar="BASE")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="omaha-guard-") as folder, Clients() as clients:
        _check_out(args.base, Path(folder))
        trees = {args.base: Path(folder), "this tree": ROOT}
        bench = Bench(Results("make bench-guard", {MIRROR: "?"}), clients, quick=True)
        base, ours = _measure(bench, trees, args.rounds).values()
    ratios = {what: median(ours[what]) / median(base[what]) for what in LIMITS}
    rows = [
        (what, f"{median(base[what]):.4g}", f"{median(ours[what]):.4g}", f"{ratio:.3f}")
        for what, ratio in ratios.items()
    ]
    show(f"{args.rounds} rounds in turns", ("", *trees, "ratio"), rows)
    sys.exit("\n".join(risen(ratios)) or 0)


def risen(ratios: Mapping[str, float]) -> list[str]:
    """A line for each thing that costs more than it may."""
    return [
        f"{what}: {ratio:.3f} of the base, {LIMITS[what]} is allowed"
        for what, ratio in ratios.items()
        if ratio > LIMITS[what]
    ]


def _check_out(commit: str, folder: Path) -> None:
    packed = subprocess.run(
        ("git", "-C", str(ROOT), "archive", commit, "omaha_mirror"), capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")


def _measure(bench: Bench, trees: Mapping[str, Path], rounds: int) -> dict[str, Values]:
    """Each value of each tree, once a round."""
    found: dict[str, dict[str, list[float]]] = {
        tree: {what: [] for what in LIMITS} for tree in trees
    }
    fills = [f"4001.0.{i}" for i in range(rounds)]
    with bench.origin() as origin, ExitStack() as stack:
        checks.publish(origin)
        origin.payload(PATH, SMALL)
        started: dict[str, tuple[Server, Server, Path]] = {}
        for tree, code in trees.items():
            site = replace(bench.site(origin, [checks.VERSION, *fills]), code=code)
            other = bench.site(origin, [checks.VERSION])
            file = other.directory / "calls"
            counted = replace(other, code=code, prelude=COUNT.format(file=file))
            plain, counting = (stack.enter_context(START[MIRROR](s)) for s in (site, counted))
            started[tree] = plain, counting, file
            for server in (plain, counting):
                checks.warm(bench, server)
                _ask(server, get(PATH), 2)
        for version in fills:
            path = origin.payload(path_of(version), FILLED)
            for tree, (plain, counting, file) in started.items():
                values = {
                    **_costs(bench, plain, path, origin.size(path)),
                    CHECK_CALLS: _calls(counting, file, checks.CHECK),
                    HIT_CALLS: _calls(counting, file, get(PATH)),
                }
                for what, value in values.items():
                    found[tree][what].append(value)
    return dict(found)


def _costs(bench: Bench, server: Server, cold: str, size: int) -> dict[str, float]:
    kept = Plan(server.port, [checks.CHECK], 8, 1.5, kept=True, machines=checks.MACHINES)
    asked, check = bench.measure(server, kept)
    loaded, hit = bench.measure(server, replace(kept, requests=[get(PATH)]))
    _, fill = bench.measure(server, Plan(server.port, [get(cold)]))
    return {
        CHECK: check / asked.answers * 1e6,
        HIT: hit / loaded.answers * 1e6,
        FILL: fill / size * 1e9,
    }


def _calls(server: Server, file: Path, request: bytes) -> float:
    """Python calls for each of some requests."""
    before = _told(server, file)
    _ask(server, request, COUNTED)
    return (_told(server, file) - before) / COUNTED


def _told(server: Server, file: Path) -> int:
    """How many calls the mirror has counted."""
    file.unlink(missing_ok=True)
    os.kill(server.process.pid, signal.SIGUSR2)
    while not file.exists() or not file.read_text().endswith(")"):
        time.sleep(0.01)
    return int(file.read_text()[len("count(") : -1])


def _ask(server: Server, request: bytes, times: int) -> None:
    """Ask one after the other on one connection."""
    with socket.create_connection((HOST, server.port)) as sock:
        for _ in range(times):
            ask(sock, request)


if __name__ == "__main__":
    main()
