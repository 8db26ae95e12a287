"""The way of one request through the code: modules, Python calls and CPU of a warm check, hit and miss."""

import asyncio
import os
import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from types import FrameType
from typing import TypeVar

import omaha_mirror
from benchmarks.clients import HOST, head_of
from benchmarks.report import show
from omaha_mirror.cache.errors import InUse
from omaha_mirror.config import Address, Config
from omaha_mirror.observability.standard_error import WRITER
from omaha_mirror.observability.telemetry import begin_to_queue, set_up_logging
from omaha_mirror.service import Service
from omaha_mirror.web.public import PublicApp
from omaha_mirror.web.server import Listener
from tests.support.mirror import PAYLOAD, PAYLOAD_PATH, omaha, real_payload, settings
from tests.support.talk import request
from tests.support.upstream import Upstream

T = TypeVar("T")
PACKAGE = f"{Path(omaha_mirror.__file__).parent}/"
CHECK = omaha("request_check_first")
ROUNDS = 7
TAIL = 0.1
"""Seconds after an answer in which what the mirror still does for it is counted."""
CPU = {"check": (20, 200), "hit": (20, 100), "miss": (20, 1)}
"""How often the CPU is measured, and over how many requests each time."""


class Trail:
    """Counts Python calls in this thread, and in all that start from now on, while it is `on`.

    A coroutine that goes on is called again.

    Attributes:
        modules: files of the mirror in which something was called.
        own: calls of functions of the mirror.
        calls: all of them.
    """

    def __init__(self) -> None:
        self.on = self._over = False
        self.modules = set[str]()
        self.own = self.calls = 0
        threading.setprofile(self._event)
        sys.setprofile(self._event)

    def begin(self) -> None:
        """Count from nothing."""
        self.modules, self.own, self.calls = set(), 0, 0
        self.on = True

    def close(self) -> None:
        """Let each thread go on without it."""
        self._over = True
        threading.setprofile(None)

    def _event(self, frame: FrameType, event: str, _: object) -> None:
        if self._over:
            sys.setprofile(None)
        elif self.on and event == "call":
            self.calls += 1
            name = frame.f_code.co_filename
            if name.startswith(PACKAGE):
                self.own += 1
                self.modules.add(name.removeprefix(PACKAGE))


class Scene:
    """A mirror in this process, and a client of it in a thread that no trail follows."""

    def __init__(self, service: Service, address: Address) -> None:
        self._cache = service.cache
        self._address = address
        self._thread = ThreadPoolExecutor(1, initializer=partial(sys.setprofile, None))
        self._socket: socket.socket | None = None
        self._messages = {"check": request("POST", "/v1/update/", {}, CHECK)}

    async def warm(self) -> None:
        """Ask for each kind; the first check learns the release."""
        offered = await self._run("check", self._ask)
        [path] = re.findall(rb'codebase="http://[^/]+([^"]+)"', offered)
        self._messages |= dict.fromkeys(
            ("hit", "miss"), request("GET", path.decode() + PAYLOAD, {}, b"")
        )
        for kind in ("miss", "check", "hit", "miss", "hit"):
            await self.cpu(kind)

    async def cpu(self, kind: str, times: int = 1) -> float:
        """CPU seconds for each of so many requests."""

        def ask(kind: str) -> float:
            before, own = time.process_time(), time.thread_time()
            for _ in range(times):
                self._ask(kind)
            return (time.process_time() - before - (time.thread_time() - own)) / times

        return await self._run(kind, ask)

    async def follow(self, kind: str, trail: Trail) -> tuple[int, int, Sequence[str]]:
        """What one request calls: all calls, those of the mirror, and its modules."""

        def ask(kind: str) -> tuple[int, int, Sequence[str]]:
            trail.begin()
            self._ask(kind)
            time.sleep(TAIL)
            trail.on = False
            return trail.calls, trail.own, sorted(trail.modules)

        return await self._run(kind, ask)

    async def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
        self._thread.shutdown()

    async def _run(self, kind: str, ask: Callable[[str], T]) -> T:
        if kind == "miss":
            await self._empty()
        return await asyncio.get_running_loop().run_in_executor(self._thread, ask, kind)

    async def _empty(self) -> None:
        while self._cache.fills():  # noqa: ASYNC110 - the last one is written down after its answer
            await asyncio.sleep(0.01)
        for blob in (await self._cache.contents()).blobs:
            while True:
                try:
                    await self._cache.remove(blob.key)
                    break
                except InUse:  # the last answer is not quite over
                    await asyncio.sleep(0.01)

    def _ask(self, kind: str) -> bytes:
        if self._socket is None:
            self._socket = socket.create_connection((self._address.host, self._address.port))
        self._socket.sendall(self._messages[kind])
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._socket.recv(65536)
        status, length, body = head_of(data)
        if status != 200:
            raise RuntimeError(f"answered with {status}: {body!r}")
        while len(body) < length:
            body += self._socket.recv(min(length - len(body), 1 << 20))
        return body


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    """Everything is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="omaha-path-") as folder:
        async with Upstream() as upstream:
            upstream.put(PAYLOAD_PATH, real_payload("flatcar-podman.gz"))
            config = Config.model_validate(settings(Path(folder), upstream.origin))
            service = Service(config)
            await service.start()
            listener = Listener(PublicApp(service.decisions, service.packages, service.observer))
            [address] = await listener.start([Address(HOST, 0)])
            here = Scene(service, address)
            try:
                await here.warm()
                yield here
            finally:
                await here.close()
                await listener.stop()
                await service.close()


def trails(rounds: int) -> dict[str, tuple[int, int, Sequence[str]]]:
    """The shortest of several for each kind of request: what the mirror does besides only adds to it."""

    async def follow() -> dict[str, tuple[int, int, Sequence[str]]]:
        async with scene() as here:
            return {
                kind: min([await here.follow(kind, trail) for _ in range(rounds)]) for kind in CPU
            }

    trail = Trail()
    try:
        return asyncio.run(follow())
    finally:
        trail.close()


async def cpu() -> dict[str, float]:
    """CPU seconds of each kind of request, the median of several measurements."""
    async with scene() as here:
        return {
            kind: median([await here.cpu(kind, times) for _ in range(rounds)])
            for kind, (rounds, times) in CPU.items()
        }


def main() -> None:
    WRITER.descriptor = os.open(os.devnull, os.O_WRONLY)
    begin_to_queue()
    set_up_logging("json", "info")
    found, seconds = trails(ROUNDS), asyncio.run(cpu())
    rows = [
        (kind, len(modules), own, calls, f"{seconds[kind] * 1e6:.0f}")
        for kind, (calls, own, modules) in found.items()
    ]
    head = ("request", "modules", "calls of the mirror", "all calls", "CPU us")
    show(
        "One warm request; all calls and the CPU of a miss are the release server's, too",
        head,
        rows,
    )
    for kind, (_, _, modules) in found.items():
        print(f"\n{kind}: {', '.join(modules)}")


if __name__ == "__main__":
    main()
