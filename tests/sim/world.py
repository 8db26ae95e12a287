"""One run: a real mirror, its machines and its upstream in virtual time."""

from __future__ import annotations

import gc
import logging
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import Any
from unittest.mock import patch

import aiohappyeyeballs
import aiohttp.connector
import structlog

import omaha_mirror.web.server
from omaha_mirror import state_file
from omaha_mirror.aio.clock import Clock
from omaha_mirror.cache import page_cache
from omaha_mirror.upstream import requests
from omaha_mirror.web import sendfile, sending, slow_clients
from tests.sim.books import Invariant
from tests.sim.dispatch import FIRST
from tests.sim.inodes import BLOCK
from tests.sim.loop import PROCESS, Process, SimLoop
from tests.sim.net import Net
from tests.sim.threads import as_events

COLD = 0.1
"""How often pages have left memory although nothing told so."""
RARELY = 60.0
"""Seconds between two looks for slow readers: no listener of a run comes to its limit, where they are cut."""
EPOCH = 1_780_000_000.0
"""The time of day at the beginning of a run."""


class World:
    """What a run happens in.

    Args:
        seed: of all that is decided by chance.

    Attributes:
        story: what happened, line by line.
        problems: what must not have happened.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.story: list[str] = []
        self.problems: list[str] = []
        self.loop = SimLoop(self.rng("loop"), self.defect)
        self.net = Net(self.loop, self.rng("net"))

    def rng(self, name: str) -> random.Random:
        """Chance for one part of the run: the same whatever other parts there are."""
        return random.Random(f"{self.seed} {name}")

    def say(self, who: str, words: str) -> None:
        """Tell a line of the story, which ends with the run."""
        if self.loop.is_closed():
            return
        self.story.append(f"[{self.loop.time():12.6f}] {who}: {words}")

    def defect(self, words: str) -> None:
        """Tell of a failure inside the mirror that nothing foresees."""
        self.fail(f"{Invariant.DEFECT}: {words}")

    def fail(self, words: str) -> None:
        """Tell of what must not happen: the words of an invariant, a colon, and what broke it."""
        if self.loop.is_closed():
            return
        Invariant(words.partition(":")[0])
        process = PROCESS.get()
        self.say(process.name if process else "world", f"PROBLEM {words}")
        self.problems.append(words)

    def wall(self) -> float:
        """The time of day by the clock of the machine that asks."""
        process = PROCESS.get()
        return EPOCH + self.loop.time() + (process.ahead if process is not None else 0.0)

    def clock(self, process: Process) -> Clock:
        """What a mirror goes by."""
        return Clock(
            wall=self.wall,
            boottime=self.loop.time,
            synchronised=lambda: not process.ahead,
            boot=f"boot {process.boots}",
        )

    @contextmanager
    def running(
        self,
        begin: Callable[[], None] = lambda: None,
        end: Callable[[], float] = lambda: 0.0,
    ) -> Iterator[None]:
        """Within it there is no time, network, thread or chance but those of this world."""
        chance, wait = self.rng("chance"), self.rng("threads")
        before = random.getstate()
        random.seed(f"{self.seed} libraries")
        cold = self.rng("pages")
        with ExitStack() as stack:
            for where, name, double in (
                (time, "monotonic", self.loop.time),
                (time, "time", self.wall),
                (time, "time_ns", lambda: int(self.wall() * 1e9)),
                (time, "clock_gettime", lambda _: self.loop.time()),
                (aiohttp.connector, "monotonic", self.loop.time),
                (aiohappyeyeballs, "start_connection", self._dial),
                (secrets, "token_bytes", chance.randbytes),
                (secrets, "token_hex", lambda size: chance.randbytes(size).hex()),
                (omaha_mirror.web.server, "open_sockets", self._listen),
                (sendfile, "send_now", lambda sock, *part: sock.send_now(*part)),
                (sendfile, "whenever_writable", lambda sock, call: sock.whenever_writable(call)),
                (sendfile, "room", lambda sock: sock.end.space()),
                (sendfile, "on_its_way", lambda sock: sock.end.waiting),
                (page_cache, "resident", partial(_resident, cold)),
                (requests, "_tls", lambda _: False),
                (state_file, "_logged", set()),
                (sending, "WITHOUT_SENDFILE", set()),
                (slow_clients, "ROUND", RARELY),
            ):
                stack.enter_context(patch.object(where, name, double))
            stack.enter_context(self._log())
            stack.enter_context(as_events(self.loop, lambda: wait.uniform(1e-4, 5e-3), begin, end))
            stack.callback(random.setstate, before)
            _freeze()
            gc.disable()
            try:
                yield
            finally:
                self.loop.close()
                gc.enable()

    async def _dial(self, *, addr_infos: Any, **_: Any) -> Any:
        host, port = addr_infos[0][4][:2]
        return await self.net.connect(host, port)

    async def _listen(self, place: Any) -> Any:
        process = PROCESS.get()
        assert process is not None
        return [self.net.bind(process.address, place.port)]

    @contextmanager
    def _log(self) -> Iterator[None]:
        """Have the mirror's log in the story."""
        before, root = structlog.get_config(), logging.getLogger()
        handlers, level = root.handlers[:], root.level
        structlog.configure(
            processors=[self._line],
            wrapper_class=structlog.make_filtering_bound_logger("info"),
            logger_factory=structlog.ReturnLoggerFactory(),
            cache_logger_on_first_use=False,
        )
        root.handlers[:] = [_Handler(self.defect)]
        root.setLevel("WARNING")
        try:
            yield
        finally:
            structlog.configure(**before)
            root.handlers[:] = handlers
            root.setLevel(level)

    def _line(self, _: object, level: str, event: MutableMapping[str, Any]) -> str:
        process = PROCESS.get()
        error = event.pop("exc_info", None)
        more = " ".join(f"{key}={value!r}" for key, value in event.items() if key != "event")
        words = f"{level} {event['event']} {more}".rstrip()
        if level in ("exception", "error", "critical") and error:
            self.defect(f"{words} {_named(error)}")
        else:
            self.say(process.name if process else "world", words)
        return ""


def _resident(chance: random.Random, fd: int, offset: int, count: int) -> bool:
    """Whether each page is in memory, and chance wants it so; a file in memory has no others."""
    if chance.random() < COLD:
        return False
    probe = [bytearray(1)]
    try:
        for at in range(offset, offset + count if fd >= FIRST else offset, BLOCK):
            os.preadv(fd, probe, at, os.RWF_NOWAIT)
        return True
    except OSError:
        return False


@cache
def _freeze() -> None:
    """Do not look through all modules at the end of each run."""
    gc.collect()
    gc.freeze()


def _named(error: Any) -> str:
    found = structlog.processors._figure_out_exc_info(error)
    return f"{found[0].__name__} {found[1]}" if found else ""


class _Handler(logging.Handler):
    def __init__(self, fail: Callable[[str], None]) -> None:
        super().__init__()
        self._fail = fail

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._fail(
            f"{record.name}: {record.getMessage().splitlines()[0]} {type(error).__name__} {error}"
        )
