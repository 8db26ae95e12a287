"""Runs the table: one scripted upstream, one real mirror process, a release of its own for each cell."""

import asyncio
import hashlib
import signal
import time
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Self

from tests.faults.clients import Machine, Outcome
from tests.faults.table import (
    COUNTS,
    ELSEWHERE,
    KINDS,
    ROWS,
    SIGNATURE,
    SIZE,
    STATES,
    Kind,
    Log,
    Ran,
    Row,
    Scene,
    State,
    payload,
)
from tests.support.broken_log import Broken, broken
from tests.support.faults import Fault, Gate
from tests.support.mirror import PAYLOAD, MirrorProcess
from tests.support.upstream import Upstream
from tests.systemd.manager import SocketUnit, listening

VERSIONS = len(ROWS) * len(STATES) * len(KINDS) * len(COUNTS) + 100
"""A release for each cell of the table, and some for other tests."""
HOLD_BACK = 64 * 1024
HALF = SIZE // 2


@dataclass(slots=True)
class Cell:
    """One cell at work: who downloads what."""

    kind: Kind
    count: int
    path: str
    body: bytes
    gate: Gate | None = None
    clients: list[asyncio.Task[Outcome]] = field(default_factory=list)


class MuteMirror(SocketUnit):
    """A mirror as a process, whose log goes nowhere. An async context manager."""

    def __init__(self, directory: Path, release_url: str, broken: Broken, **changes: Any) -> None:
        self.log: list[str] = []
        self._stack = ExitStack()
        self._broken = broken
        sock = self._stack.enter_context(listening())
        super().__init__(directory, release_url, {"omaha": sock}, log={"level": "info"}, **changes)

    async def __aenter__(self) -> Self:
        await self.start(broken(self._broken, self._stack))
        return self

    async def __aexit__(self, *_: object) -> None:
        await super().__aexit__()
        self._stack.close()

    async def terminate(self) -> int:
        """Ask it to stop; the exit code."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> int:
        """End it as a crash or a power cut does."""
        return await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code, _ = await self.ended()
        self._stack.close()
        return code


class Lab:
    """An upstream and a mirror before it. Made by `lab`."""

    def __init__(self, directory: Path, stall_timeout: str, log: Log, prelude: str) -> None:
        self.directory = directory
        self.upstream = Upstream()
        self.resume_unsafe: list[tuple[str, int, bytes]] = []
        self.releases = 0
        self._stall_timeout = stall_timeout
        self._log = log
        self._prelude = prelude
        self._full: Cell | None = None

    async def start(self) -> None:
        """Start a mirror; it goes on with what the one before has left."""
        changes: dict[str, Any] = {
            "cache": {"hold_back": HOLD_BACK},
            "upstream": {"stall_timeout": self._stall_timeout, "max_fills": 100},
            "tracks": {f"t{number}": f"9000.{number}.0" for number in range(VERSIONS)},
        }
        self.mirror: MirrorProcess | MuteMirror = (
            MirrorProcess(self.directory, self.upstream.origin, **changes)
            if self._log == "read"
            else MuteMirror(self.directory, self.upstream.origin, self._log, **changes)
        )
        if isinstance(self.mirror, MirrorProcess):
            self.mirror.prelude = self._prelude
        await self.mirror.__aenter__()

    def machine(self, path: str, body: bytes) -> Machine:
        return Machine(self.mirror.address, path, body)

    def stored(self) -> list[Path]:
        """All proven blobs."""
        return [p for p in (self.directory / "cache" / "blobs").glob("*/*") if not p.suffix]

    def partial(self) -> list[Path]:
        """What lies about of fills."""
        return list((self.directory / "cache" / "partial").iterdir())

    def publish(self, path: str, body: bytes) -> None:
        """Put a file on the upstream."""
        self.upstream.put(path, body)
        self.upstream.put(ELSEWHERE + path, body)
        self.upstream.put(f"{ELSEWHERE}{path}?{SIGNATURE}", body, sidecar=False)

    def withdraw(self, cell: Cell) -> None:
        """Take the file of a cell from the upstream: hundreds of them are too much to keep in memory."""
        self.upstream.remove(cell.path)
        self.upstream.remove(ELSEWHERE + cell.path)
        self.upstream.remove(f"{ELSEWHERE}{cell.path}?{SIGNATURE}")

    async def new(
        self,
        kind: Kind = "whole",
        count: int = 1,
        size: int = SIZE,
        early: Iterable[Fault] = (),
    ) -> Cell:
        """A release that the mirror knows of and has no byte of; it learnt of it with `early` faults."""
        path, body = released(self.releases, size)
        self.releases += 1
        self.publish(path, body)
        for fault in early:
            self.upstream.fault(path, fault)
        assert (await self.mirror.get(f"{path}.sha256")).status == 200
        return Cell(kind, count, path, body)

    async def run(self, row: Row, state: State) -> list[Ran]:
        """Run the cells of a row in one state, side by side."""
        cells = [await self._prepared(row, kind, n, state) for kind in KINDS for n in COUNTS]
        before = [self._books(cell) if state == "full" else (0, 0) for cell in cells]
        since = time.monotonic()
        for cell in cells:
            self._arm(row, cell, state)
        if row.damage is not None and state == "full":
            await self._damage(cells[0], row.damage)
        async with self._refusing(row.refuses):
            for cell in cells:
                cell.clients += [self._client(cell, i) for i in range(cell.count)]
            await self.mirror.round_trips(1)
            for cell in cells:
                if cell.gate is not None:
                    cell.gate.open()
        ended = await asyncio.gather(*(self._outcomes(cell, since) for cell in cells))
        for cell in cells:
            self.upstream.heal(cell.path)
            self.publish(cell.path, cell.body)
        ran = [
            await self._settled(cell, outcomes, seconds, books)
            for cell, (outcomes, seconds), books in zip(cells, ended, before, strict=True)
        ]
        for cell in cells:
            self.withdraw(cell)
        return ran

    async def _prepared(self, row: Row, kind: Kind, count: int, state: State) -> Cell:
        if state == "full":
            if self._full is None:
                self._full = await self.new()
                full = await self.machine(self._full.path, self._full.body).whole()
                assert full.word == "ok", full
            return Cell(kind, count, self._full.path, self._full.body)
        cell = await self.new(kind, count, early=row.early)
        if state == "filling":
            cell.gate = self.upstream.hold(cell.path, HALF)
            leader = self.machine(cell.path, cell.body).whole()
            cell.clients.append(asyncio.create_task(leader))
            await cell.gate.reached()
        return cell

    async def _damage(self, cell: Cell, damage: Callable[[Path, bytes], None]) -> None:
        """Done once: the cells have the same file."""
        self.publish(cell.path, cell.body)
        key = hashlib.sha256(cell.body).hexdigest()
        blob = self.directory / "cache" / "blobs" / key[:2] / key
        while not blob.exists():
            await self.mirror.round_trips(1)
        damage(blob, cell.body)

    def _arm(self, row: Row, cell: Cell, state: State) -> None:
        rng = Random(zlib.crc32(f"{row.name} {state} {cell.kind} {cell.count}".encode()))
        low = HALF if state == "filling" else 0
        scene = Scene(rng, low, cell.path)
        for fault in row.faults(scene):
            self.upstream.fault(cell.path, fault)
        if row.replaced:
            self.upstream.put(cell.path, scene.other())

    @asynccontextmanager
    async def _refusing(self, seconds: float) -> AsyncIterator[None]:
        if not seconds:
            yield
            return
        await self.upstream.refuse()
        self.upstream.cut_all()
        try:
            yield
            await asyncio.sleep(seconds)
        finally:
            await self.upstream.listen()

    def _client(self, cell: Cell, i: int) -> asyncio.Task[Outcome]:
        machine = self.machine(cell.path, cell.body)
        work: Coroutine[Any, Any, Outcome]
        if cell.kind == "resuming":
            work = machine.resuming(if_range=i % 2 == 1)
        elif cell.kind == "whole":
            work = machine.whole()
        else:
            work = ranged(machine, i)
        return asyncio.create_task(work)

    async def _outcomes(self, cell: Cell, since: float) -> tuple[list[Outcome], float]:
        outcomes = await asyncio.gather(*cell.clients)
        return outcomes, time.monotonic() - since

    async def _settled(
        self, cell: Cell, outcomes: list[Outcome], seconds: float, before: tuple[int, int]
    ) -> Ran:
        machine = self.machine(cell.path, cell.body)
        after = await machine.whole()
        wrong = {outcome.held for outcome in outcomes if not outcome.right}
        self.resume_unsafe += [(cell.path, held, cell.body) for held in wrong if held < SIZE]
        answers = [(await machine.tail(held)).word for held in wrong if held < SIZE]
        fetched, gets = self._books(cell)
        return Ran(
            kind=cell.kind,
            count=cell.count,
            words=tuple(outcome.word for outcome in outcomes),
            after=after.word,
            answers=tuple(answers),
            fetched=fetched - before[0],
            gets=gets - before[1],
            seconds=seconds,
        )

    def _books(self, cell: Cell) -> tuple[int, int]:
        """Bytes and GETs of the file at the upstream so far."""
        paths = cell.path, ELSEWHERE + cell.path, f"{ELSEWHERE}{cell.path}?{SIGNATURE}"
        fetched = sum(self.upstream.bytes_sent(path) for path in paths)
        return fetched, len(self.upstream.requests(cell.path, "GET"))


def released(number: int, size: int = SIZE) -> tuple[str, bytes]:
    """The path and the bytes of a release."""
    return f"/amd64-usr/9000.{number}.0/{PAYLOAD}", payload(Random(number), size)


async def ranged(machine: Machine, i: int) -> Outcome:
    """The ranges that clients ask for, one after the other."""
    match i % 4:
        case 0:
            return await machine.after_reboot(2 * SIZE // 5)
        case 1:
            return await machine.bounded(3 * SIZE // 10, 8 * SIZE // 10)
        case 2:
            return await machine.tail(3 * SIZE // 5)
        case _:
            return await machine.suffix(100_000)


@asynccontextmanager
async def lab(
    directory: Path, *, stall_timeout: str = "5s", log: Log = "read", prelude: str = ""
) -> AsyncIterator[Lab]:
    """A lab, with its upstream and its mirror running."""
    made = Lab(directory, stall_timeout, log, prelude)
    async with made.upstream:
        await made.start()
        try:
            yield made
        finally:
            await made.mirror.__aexit__()


class Labs:
    """The labs that rows run in, each made when the first of them comes.

    Args:
        folder: makes an empty one.
        stack: ends them.
    """

    def __init__(self, folder: Callable[[], Path], stack: AsyncExitStack) -> None:
        self.made: dict[tuple[bool, Log, str], Lab] = {}
        self._folder = folder
        self._stack = stack

    async def of(self, row: Row) -> Lab:
        key = row.hasty, row.log, row.prelude
        if key not in self.made:
            # Hasty: it makes a silence of a few seconds a long one.
            limit = "300ms" if row.hasty else "5s"
            made = lab(self._folder(), stall_timeout=limit, log=row.log, prelude=row.prelude)
            self.made[key] = await self._stack.enter_async_context(made)
        return self.made[key]
