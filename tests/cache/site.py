"""A cache over a real directory, and a store that waits or fails where a test says."""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from omaha_mirror.aio.clock import Clock
from omaha_mirror.cache import (
    Cache,
    DiskStore,
    Expected,
    FetchScheduler,
    Ledger,
    Limits,
    Proof,
    Reader,
    Validator,
)
from omaha_mirror.cache.draft import DiskDraft, IncomingFile
from omaha_mirror.cache.events import Event
from omaha_mirror.cache.prover import HoldBacks, Provers
from omaha_mirror.cache.store import Leftover
from tests.cache.source import ScriptedSource
from tests.support.clock import machine_clock

HOLD_BACK = 64 * 1024
NO_WAIT_FOR_PROOF = Limits(proof_seconds=0.0)
"""A range ends as soon as its bytes are there."""
E = TypeVar("E")


class Hold:
    """Holds a worker thread at one step of the store until the test opens it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._passable = threading.Event()

    def open(self) -> None:
        self._passable.set()

    def pass_through(self) -> None:
        """Called by the worker."""
        self._loop.call_soon_threadsafe(self.reached.set)
        if not self._passable.wait(30):
            raise RuntimeError("the test never opened this hold")


class ScriptedStore(DiskStore):
    """The real store; steps named in `holds` wait, steps named in `failures` raise, and all are noted in `steps`."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        super().__init__(directory, clock)
        self.holds: dict[str, Hold] = {}
        self.failures: dict[str, BaseException] = {}
        self.steps: list[str] = []
        self.free_bytes: int | None = None

    def hold(self, step: str) -> Hold:
        self.holds[step] = Hold()
        return self.holds[step]

    def step(self, name: str) -> None:
        self.steps.append(name)
        if hold := self.holds.get(name):
            hold.pass_through()
        if failure := self.failures.get(name):
            raise failure

    def draft(self, expected: Expected) -> DiskDraft:
        self.step("draft")
        return ScriptedDraft(self, expected)

    def remove(self, key: str) -> None:
        self.step("remove")
        super().remove(key)

    def leftovers(self) -> list[Leftover]:
        self.step("leftovers")
        return super().leftovers()

    def incoming(self, expected: Expected) -> IncomingFile:
        found = ScriptedIncoming(self, expected)
        self.step("incoming")
        return found

    def free(self) -> int:
        self.step("free")
        return super().free() if self.free_bytes is None else self.free_bytes


class ScriptedDraft(DiskDraft):
    """Tells its store of each step."""

    def __init__(self, store: ScriptedStore, expected: Expected) -> None:
        super().__init__(store, expected)
        self._step = store.step

    def begin(self, validator: Validator) -> None:
        self._step("begin")
        super().begin(validator)

    def write(self, offset: int, buffers: Sequence[bytes]) -> None:
        self._step("write")
        super().write(offset, buffers)

    def read(self, offset: int, count: int) -> bytes:
        self._step("read")
        return super().read(offset, count)

    def record(self) -> None:
        self._step("record")
        super().record()

    def commit(self, proof: Proof) -> str:
        self._step("commit")
        return super().commit(proof)

    def leak(self) -> None:
        self._step("leak")
        super().leak()

    def drop(self, start: int, stop: int, *, leaked: bool) -> None:
        self._step("drop")
        super().drop(start, stop, leaked=leaked)

    def reject(self, *, aside: bool, leaked: bool) -> None:
        self._step("reject")
        super().reject(aside=aside, leaked=leaked)

    def discard(self) -> None:
        self._step("discard")
        super().discard()


class ScriptedIncoming(IncomingFile):
    """Says to its store when it gets its name."""

    def __init__(self, store: ScriptedStore, expected: Expected) -> None:
        super().__init__(store.arriving / expected.key, store.path(expected.key), expected.source)
        self._step = store.step

    def commit(self, proof: Proof) -> None:
        self._step("name")
        super().commit(proof)


@dataclass
class Site:
    """A started cache and what it told its hook."""

    directory: Path
    max_size: int = 1 << 30
    hold_back: int = HOLD_BACK
    limits: Limits = NO_WAIT_FOR_PROOF
    round_seconds: float = 0.0
    scheduler: FetchScheduler = field(default_factory=FetchScheduler)
    when_abandoned: Literal["finish", "stop"] = "finish"
    keep: Callable[[str], bool] = lambda _key: False
    provers: Provers = field(default_factory=HoldBacks)
    events: list[Event] = field(default_factory=list)
    clock: Clock = field(default_factory=machine_clock)

    def __post_init__(self) -> None:
        self.store = ScriptedStore(self.directory, self.clock)
        self.ledger = Ledger(self.max_size, 0)
        self.cache = Cache(
            self.store,
            self.ledger,
            self.clock,
            limits=replace(self.limits, round_seconds=self.round_seconds),
            scheduler=self.scheduler,
            hold_back=self.hold_back,
            provers=self.provers,
            when_abandoned=self.when_abandoned,
            hook=self._hook,
            keep=self.keep,
        )
        self._new_event = asyncio.Event()

    def _hook(self, event: Event) -> None:
        self.events.append(event)
        self._new_event.set()

    async def start(self) -> "Site":
        await self.cache.start()
        return self

    async def read(
        self,
        source: ScriptedSource,
        start: int = 0,
        stop: int | None = None,
        expected: Expected | None = None,
    ) -> bytes:
        """All that a reader of [start, stop) gets."""
        expected = expected or source.expected
        stop = expected.size if stop is None else stop
        with self.cache.read(expected, source, start, stop) as reader:
            return await rest(reader)

    def all(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def event(self, kind: type[E], count: int = 1) -> E:
        """The `count`-th event of a kind, when there is one."""
        while len(self.all(kind)) < count:
            self._new_event.clear()
            await self._new_event.wait()
        return self.all(kind)[count - 1]

    async def filled(self, count: int) -> None:
        """Return when the only fill has written `count` bytes."""
        while self.cache.fills()[0].filled < count:  # noqa: ASYNC110 - nothing tells of a write
            await asyncio.sleep(0)

    def open_files(self) -> list[str]:
        return open_files(self.directory)

    def files(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.directory / folder).rglob("*") if path.is_file())


def open_files(directory: Path) -> list[str]:
    """Files of a directory that this process has open, deleted ones included."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue
    return [link for link in links if link.startswith(f"{directory}/")]


async def have(site: Site, source: ScriptedSource, used: float) -> str:
    """Have a blob here, last used at a time; gives its key."""
    await site.cache.fetch(source.expected, source)
    site.ledger.entries[source.expected.key].last_used = used
    return source.expected.key


async def step(reader: Reader) -> bytes:
    """The next bytes that a reader gets; empty at the end."""
    window = await reader.window()
    if window is None:
        return b""
    data = os.pread(window.file.fileno(), window.count, window.offset)
    reader.advance(len(data))
    return data


async def rest(reader: Reader) -> bytes:
    """All that a reader still gets."""
    parts = []
    while data := await step(reader):
        parts.append(data)
    return b"".join(parts)
