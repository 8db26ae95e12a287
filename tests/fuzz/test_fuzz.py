"""The readers of what strangers send keep their promises for any bytes, as far as a fuzzer finds in a bounded time."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import targets

ROOT = Path(__file__).parents[2]

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is missing: there are wheels of it for x86_64 and Python 3.11 to 3.13 only",
)


def fuzz(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_examples_hold_and_are_not_all_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    taken = []
    attempt = targets.attempt

    def watched(read: Callable[[], object], *refusals: type[Exception]) -> object:
        result = attempt(read, *refusals)
        taken.append(result is not None)
        return result

    monkeypatch.setattr(targets, "attempt", watched)
    for seed in targets.TARGETS[name].seeds():
        targets.TARGETS[name].take(seed)
    assert any(taken)


def test_make_fuzzes_each_target() -> None:
    script = (ROOT / "Makefile").read_text().replace("\\\n", "")
    (told,) = re.findall(r"for name in ([^;]*); do[^;]*tests\.fuzz", script)
    assert told.split() == list(targets.TARGETS)


@pytest.mark.long
@needs_atheris
@pytest.mark.parametrize("name", targets.TARGETS)
def test_no_bytes_break_a_promise(tmp_path: Path, name: str) -> None:
    done = fuzz("-m", "tests.fuzz", name, str(tmp_path), "-max_total_time=10", "-seed=1")
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    (runs,) = re.findall(r"^Done (\d+) runs", done.stderr, re.M)
    assert int(runs) > 1000


PLANTED = """
import sys
from pathlib import Path
from tests.fuzz import __main__ as fuzz

def fails(data):
    fuzz.TARGETS["request"].take(data)
    assert len(data) < 1000

fuzz.TARGETS["planted"] = fuzz.TARGETS["request"]._replace(take=fails)
fuzz.main("planted", Path(sys.argv[1]), "-runs=100000", "-seed=1")
"""


@pytest.mark.long
@needs_atheris
def test_a_broken_promise_is_found_and_its_input_kept(tmp_path: Path) -> None:
    done = fuzz("-c", PLANTED, str(tmp_path))
    assert done.returncode != 0
    assert "AssertionError" in done.stdout + done.stderr
    (kept,) = tmp_path.glob("crash-*")
    assert kept.stat().st_size >= 1000
