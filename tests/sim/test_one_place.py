"""The mirror reads time and chance where the simulation replaces them, and nowhere else."""

import ast
import gc
import os
import random
import secrets
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import omaha_mirror
from tests.sim.generate import generate
from tests.sim.run import run
from tests.sim.world import World
from tests.support.syntax import tree

SOURCES: dict[str, set[str]] = {
    "time": {
        "clock_gettime", "clock_gettime_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns",
        "process_time", "process_time_ns", "thread_time", "thread_time_ns", "time", "time_ns",
    },
    "secrets": {"choice", "randbelow", "randbits", "token_bytes", "token_hex", "token_urlsafe"},
    "uuid": {"uuid1", "uuid4"},
    "os": {"getrandom", "urandom"},
    "datetime": {"now", "today", "utcnow"},
    "random": {name for name in vars(random) if name.islower()} | {"SystemRandom"},
}  # fmt: skip
"""What gives another answer in each run, by module."""
BUILT_IN = {*SOURCES["time"], *SOURCES["os"], *SOURCES["datetime"]}
OUTSIDE = ("cli/", "client/", "systemd.py", "observability/standard_error.py")
"""What no simulated mirror runs: commands, clients, systemd and the thread of the log."""
TLS = "config/credentials.py: datetime.now"


def read_by(path: Path) -> Iterator[tuple[str, str]]:
    """The sources that a module names: where, and which."""
    for node in ast.walk(tree(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in SOURCES:
            for name in node.names:
                if name.name in SOURCES[node.module]:
                    yield node.module, f"import {name.name}"  # no patch of the module reaches it
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            module = getattr(node.value, "id", getattr(node.value, "attr", ""))
            if node.attr in SOURCES.get(module, ()):
                yield module, node.attr
        elif (
            isinstance(node, ast.Call)
            and not node.args
            and ast.unparse(node.func).endswith("Random")
        ):
            yield "random", "Random()"


def replaced() -> set[tuple[str, str]]:
    """The sources that a world has its own in place of."""
    modules = (time, secrets, os, uuid, random)
    before = {
        (module, name): getattr(module, name)
        for module in modules
        for name in SOURCES[module.__name__]
        if hasattr(module, name)
    }
    with World(0).running():
        return {
            (module.__name__, name)
            for (module, name), real in before.items()
            if getattr(module, name) is not real
        }


def test_the_mirror_names_no_other_source() -> None:
    root, known = Path(omaha_mirror.__file__).parent, replaced()
    assert ("time", "monotonic") in known
    found = {
        f"{name}: {module}.{which}"
        for path in sorted(root.rglob("*.py"))
        if not (name := str(path.relative_to(root))).startswith(OUTSIDE)
        for module, which in read_by(path)
        if (module, which) not in known
    }
    assert found == {TLS, "offline.py: random.Random()", "service.py: random.Random()"}


def asked(work: Callable[[], object]) -> set[str]:
    """The real clocks and sources of chance that are asked while something runs, libraries included."""
    found = set[str]()

    def look(frame: FrameType, event: str, called: Any) -> None:
        if (
            event == "c_call"
            and called.__name__ in BUILT_IN
            and called.__module__ in ("time", "posix", None)
        ):
            found.add(f"{called.__name__} by {frame.f_code.co_filename}:{frame.f_lineno}")
        elif (
            event == "call"
            and frame.f_code is random.Random.seed.__code__
            and frame.f_locals["a"] is None
        ):
            found.add("Random()")

    callbacks, gc.callbacks[:] = gc.callbacks[:], []  # of hypothesis, which times each collection
    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.callbacks[:] = callbacks
    return found


@pytest.mark.parametrize("seed", [3, 13])
def test_a_run_asks_no_real_clock_and_no_chance(seed: int) -> None:
    schedule = generate(seed)
    assert asked(lambda: run(schedule)) == set()


@pytest.mark.parametrize(
    "call",
    ["time.time()", "time.monotonic()", "uuid.uuid4()", "os.urandom(1)", "random.Random()", "__import__('datetime').datetime.now()"],
)  # fmt: skip
def test_one_that_is_asked_is_seen(call: str) -> None:
    compiled = compile(call, "call", "eval")
    assert len(asked(lambda: eval(compiled))) == 1
