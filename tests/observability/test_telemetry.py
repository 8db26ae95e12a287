"""The lines of the log: each is one of bounded length, whatever is told, and by whomever."""

import json
import subprocess
import sys
from typing import Any

LONGEST = 32 * 1024

SCRIPT = r"""
import asyncio, logging, threading, warnings
import structlog
from omaha_mirror.observability import standard_error
from omaha_mirror.observability.telemetry import begin_to_queue, set_up_logging, tell

standard_error.take_over()
begin_to_queue()
set_up_logging("json", "info")
LOG = structlog.get_logger("x")

class Bad:
    def __repr__(self):
        raise ValueError("no words")

class Finalised:
    def __del__(self):
        raise OSError("in a finalizer")

def deep(n):
    return deep(n - 1) if n else 1 / 0

def fail():
    raise LookupError("in a thread")

def in_turn(n):
    try:
        if n:
            in_turn(n - 1)
        else:
            raise ValueError("z" * 100_000)
    except ValueError as error:
        raise ValueError(f"number {n}") from error

LOG.info("plain", what=1, text="\ud800 ü \x1b[31m\nmore", method="GET", values=2, line=4)
LOG.debug("not told")
LOG.info("unspeakable", what=Bad())
LOG.info("long", what="y" * 100_000, much=["w" * 1000] * 100)
try:
    in_turn(300)
except ValueError:
    LOG.exception("traceback")
logging.getLogger("library").warning("%d apples", "no")
logging.getLogger("library").warning("%d apples", 3)
warnings.warn("beware", stacklevel=1)
thread = threading.Thread(target=fail)
thread.start()
thread.join()
Finalised()
tell(fail)

async def main():
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

asyncio.run(main())
deep(3)
"""


def test_each_line_is_json_of_bounded_length_and_nothing_gets_past_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=False, capture_output=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stdout == b""
    lines = done.stderr.decode("ascii").splitlines()
    assert max(map(len, lines)) <= LONGEST
    told: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in told)

    def one(words: str) -> dict[str, Any]:
        [found] = [line for line in told if words in json.dumps(line)]
        return found

    assert one("plain")["text"] == "\ud800 ü \x1b[31m\nmore"
    assert (one("plain")["method"], one("plain")["values"]) == ("GET", 2)
    assert one("unspeakable")["why"] == "ValueError"
    assert one("yyy")["what"].startswith("yyy")
    traceback = one('"traceback"')["exception"]
    assert traceback.startswith("Traceback")
    assert traceback.endswith("ValueError: number 300")
    assert one("library's line")["logger"] == "library"
    assert one("3 apples")["level"] == "warning"
    assert "beware" in one("beware")["event"]
    assert "LookupError: in a thread" in one("a thread crashed")["exception"]
    assert "OSError: in a finalizer" in one("finalizer")["exception"]
    assert "LookupError" in one("a report failed")["exception"]
    assert "LookupError" in one("Exception in callback")["exception"]
    assert "ZeroDivisionError" in one('"crashed"')["exception"]
    assert len(told) == 12


CONSOLE = r"""
import logging
import structlog
from omaha_mirror.observability.telemetry import set_up_logging

set_up_logging("console", "info")
LOG = structlog.get_logger("x")
LOG.info("check", track="stable", why="a b", empty="", bad="\x1b[31m\ud800\u202e", number=1)
logging.getLogger("library").warning("%s", "one\n\x1b[2Jtwo")
try:
    raise ValueError("\x1b]0;title\x07\nmore")
except ValueError:
    LOG.exception("failed")
"""


def test_lines_for_people_control_no_terminal() -> None:
    done = subprocess.run([sys.executable, "-c", CONSOLE], check=True, capture_output=True)
    check, first, second, failed, *trace = done.stderr.decode("ascii", "replace").splitlines()
    words = r"bad='\x1b[31m\ud800\u202e' empty='' number=1 track=stable why='a b'"
    assert check.endswith(f"Z [info     ] check{' ' * 26}{words}")
    assert first.endswith("[warning  ] one")
    assert second.rstrip() == "\N{REPLACEMENT CHARACTER}[2Jtwo".encode().decode("ascii", "replace")
    assert failed.split()[2:] == ["]", "failed"]
    assert trace[0] == "Traceback (most recent call last):"
    assert not any("\x1b" in line or "\x07" in line for line in trace)
