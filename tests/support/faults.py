"""What the scripted upstream can be told to do wrong, and where it can be told to wait."""

import asyncio
import sys
from collections import defaultdict
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong; `times` it happens (None: always), and for which `method` (None: any)."""

    times: int | None = None
    method: str | None = None


@dataclass(frozen=True, slots=True)
class Drop(Fault):
    """Reset the connection before byte `at`, after all bytes before it have arrived."""

    at: int


@dataclass(frozen=True, slots=True)
class Fin(Fault):
    """Close the connection politely before byte `at`, the full Content-Length notwithstanding."""

    at: int


@dataclass(frozen=True, slots=True)
class Stall(Fault):
    """Pause for `seconds` before byte `at`. Where a test can say when to go on, use `hold`."""

    at: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Corrupt(Fault):
    """Flip the bits of byte `at`."""

    at: int


@dataclass(frozen=True, slots=True)
class Change(Fault):
    """Publish `body` under the path when byte `at` is reached, then go on with the old or drop."""

    at: int
    body: bytes
    drop: bool = False


@dataclass(frozen=True, slots=True)
class Status(Fault):
    """Answer with this status and an HTML page."""

    code: int
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Hangup(Fault):
    """Close the connection without an answer."""


@dataclass(frozen=True, slots=True)
class Redirect(Fault):
    """Send the client elsewhere."""

    location: str
    code: int = 302


@dataclass(frozen=True, slots=True)
class RawHead(Fault):
    """Answer with this head as it stands, whatever was asked, and the whole file after it where a body follows.

    The connection is closed after it.
    """

    head: bytes


@dataclass(frozen=True, slots=True)
class NoRange(Fault):
    """Ignore Range: 200 and the whole file."""


@dataclass(frozen=True, slots=True)
class NoLength(Fault):
    """Send the body chunked, without Content-Length; `surplus` bytes follow the file's own."""

    surplus: bytes = b""


@dataclass(frozen=True, slots=True)
class WrongRange(Fault):
    """Answer a Range with 206 and another one, `by` bytes further on."""

    by: int


@dataclass(frozen=True, slots=True)
class LongRange(Fault):
    """Answer a Range with 206 and `by` bytes more at its end (fewer, if negative)."""

    by: int


@dataclass(frozen=True, slots=True)
class WrongLength(Fault):
    """Announce a Content-Length that is `by` bytes too large (too small, if negative)."""

    by: int


@dataclass(frozen=True, slots=True)
class NoValidator(Fault):
    """Leave out ETag and Last-Modified."""


@dataclass(frozen=True, slots=True)
class Nodes(Fault):
    """Several servers answer in turn, each with a validator of its own."""

    count: int = 2


@dataclass(frozen=True, slots=True)
class Encoding(Fault):
    """Label the body with a Content-Encoding that it does not have."""

    name: str = "gzip"


@dataclass(frozen=True, slots=True)
class Drip(Fault):
    """Send at most `rate` bytes a second on each connection."""

    rate: float


class Gate:
    """A place where the server waits; made by `Upstream.hold`."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self._reached = asyncio.Event()
        self._open = asyncio.Event()

    async def reached(self) -> None:
        """Wait until a response has come to this gate."""
        await self._reached.wait()

    def open(self) -> None:
        """Let all pass, those waiting and those to come."""
        self._open.set()

    async def pass_(self) -> None:
        self._reached.set()
        await self._open.wait()


@dataclass(slots=True)
class _Armed:
    fault: Fault
    left: int | None


class Script:
    """The faults and gates of every path."""

    def __init__(self) -> None:
        self._faults: defaultdict[str, list[_Armed]] = defaultdict(list)
        self._gates: defaultdict[str, list[Gate]] = defaultdict(list)

    def arm(self, path: str, fault: Fault) -> None:
        self._faults[path].append(_Armed(fault, fault.times))

    def disarm(self, path: str) -> None:
        self._faults.pop(path, None)

    def gate(self, path: str, at: int | None) -> Gate:
        gate = Gate(at)
        self._gates[path].append(gate)
        return gate

    async def pass_gates(self, path: str, at: int | None) -> None:
        for gate in [gate for gate in self._gates[path] if gate.at == at]:
            await gate.pass_()

    def next_mark(self, path: str, at: int) -> int:
        """Where there is something to do next, after byte `at`."""
        marks = [gate.at for gate in self._gates[path]]
        marks += [_place(armed.fault) for armed in self._faults[path]]
        return min((mark for mark in marks if mark is not None and mark > at), default=sys.maxsize)

    def take(self, path: str, method: str, kind: type[T], at: int | None = None) -> T | None:
        """The first armed fault of a kind for this method (and byte), used up by one."""
        for armed in self._faults[path]:
            fault = armed.fault
            if (
                isinstance(fault, kind)
                and armed.left != 0
                and fault.method in (None, method)
                and _place(fault) == at
            ):
                armed.left = None if armed.left is None else armed.left - 1
                return fault
        return None


def _place(fault: Fault) -> int | None:
    return fault.at if isinstance(fault, Drop | Fin | Stall | Corrupt | Change) else None
