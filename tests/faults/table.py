"""The table of faults: what goes wrong upstream, and what must come of it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

from tests.cache.payloads import signed
from tests.support.faults import (
    Change,
    Corrupt,
    Drip,
    Drop,
    Encoding,
    Fault,
    Fin,
    Hangup,
    LongRange,
    Nodes,
    NoLength,
    NoRange,
    NoValidator,
    RawHead,
    Redirect,
    Stall,
    Status,
    WrongLength,
    WrongRange,
)

State = Literal["cold", "filling", "full"]
STATES: tuple[State, ...] = ("cold", "filling", "full")
Log = Literal["read", "full", "unread"]
Kind = Literal["whole", "ranged", "resuming"]
KINDS: tuple[Kind, ...] = ("whole", "ranged", "resuming")
COUNTS = (1, 10)
SIZE = 2 * 1024 * 1024
OPERATION = 128 * 1024
SLACK = 1024 * 1024
"""Bytes that may be on their way when a connection ends."""
ELSEWHERE = "/elsewhere"
"""Where each file can be had too."""
SIGNATURE = "acl=%2Fa%2F%2A~hmac&sig=a%2Fb%3Ac%27%7Ed%40e+%20%25"
"""Of an address that is served as it was signed, and in no other way of writing it."""


def payload(rng: Random, size: int = SIZE) -> bytes:
    """An update package of so many bytes."""
    short = 1000
    while True:
        count, rest = divmod(size - short, OPERATION)
        made = signed([*(rng.randbytes(OPERATION) for _ in range(count)), rng.randbytes(rest)])
        if len(made) == size:
            return made
        short += len(made) - size


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a fault strikes: not before byte `low` of the file, which is already here."""

    rng: Random
    low: int
    path: str

    def somewhere(self) -> int:
        return self.rng.randrange(max(1, self.low), SIZE)

    def drop(self) -> Drop:
        """Makes the mirror ask for the rest."""
        return Drop(times=1, at=self.somewhere())

    def again(self) -> list[Fault]:
        """Lets a fill that has its answer already ask once more."""
        return [self.drop()] if self.low else []

    def other(self) -> bytes:
        """What the file is replaced by: as right in itself and of the same size, so that nothing but the whole tells."""
        return payload(self.rng)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault.

    Attributes:
        name: for people.
        faults: what the upstream is told.
        early: what it is told before the mirror learns of the release.
        peers: outcomes with nginx proxy_cache, nginx slice, varnish, squid and apt-cacher-ng.
        invisible: whether every client must be well.
        destroys: how often the whole file's bytes may have to be fetched again.
        gets: upstream requests that are enough for whoever wants the whole file.
        lasts: whether it goes on until it is healed; a blob that it spoils is not tried again for an hour.
        refuses: seconds without a listening upstream.
        replaced: whether upstream has other bytes from now on.
        damage: done to the file on the mirror's disk, where it is whole.
        prelude: Python that the mirror runs first, so that its machine is another one.
        hasty: run with a short stall time-out, so that a short silence is a long one in proportion.
        log: where the mirror's own log goes: read, to a full disk, or to a pipe that nobody reads.
        within: seconds in which all must be done.
    """

    name: str
    faults: Callable[[Scene], list[Fault]] = lambda _: []
    early: tuple[Fault, ...] = ()
    peers: tuple[str, str, str, str, str] = ("", "", "", "", "")
    invisible: bool = True
    destroys: int = 0
    gets: int | None = None
    lasts: bool = False
    refuses: float = 0.0
    replaced: bool = False
    damage: Callable[[Path, bytes], None] | None = None
    prelude: str = ""
    hasty: bool = False
    log: Log = "read"
    within: float | None = None


def _five_drops(scene: Scene) -> list[Fault]:
    step = (SIZE - scene.low) // 6
    return [Drop(times=1, at=scene.low + step * i) for i in range(1, 6)]


def _once(fault: Callable[[int], Fault]) -> Callable[[Scene], list[Fault]]:
    return lambda scene: [fault(scene.somewhere())]


def _then(*faults: Fault) -> Callable[[Scene], list[Fault]]:
    """Faults of an answer's head: a fill under way meets them when it asks again."""
    return lambda scene: [*scene.again(), *faults]


def _after_a_drop(*faults: Fault) -> Callable[[Scene], list[Fault]]:
    return lambda scene: [scene.drop(), *faults]


CUT = "cut, fetched anew"
SPLICED = "spliced, cut 98 %"
KEPT_WRONG = "WRONG, kept"
KEPT_SHORT = "SHORT, kept"
PASSED = "503; next ok"

NO_SENDFILE = """
import errno, os
def sendfile(*_):
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
os.sendfile = sendfile
"""
JUMPING = """
import time
right, began = time.time, time.monotonic()
time.time = lambda: right() + {jump} * (int(2 * (time.monotonic() - began)) % 2)
"""
"""The clock is set twice a second: wrong, and right again."""
AHEAD = JUMPING.format(jump="9 * 365 * 86400")
BEHIND = JUMPING.format(jump="-right()")

ROWS: tuple[Row, ...] = (
    Row(
        name="drop once",
        faults=lambda scene: [scene.drop()],
        gets=2,
        peers=(CUT, "WRONG", CUT, CUT, "ok"),
    ),
    Row(name="drop before the first byte", faults=lambda s: [Drop(times=1, at=s.low)], gets=2),
    Row(name="drop before the last byte", faults=lambda _: [Drop(times=1, at=SIZE - 1)], gets=2),
    Row(
        name="drop five times",
        faults=_five_drops,
        gets=6,
        peers=(CUT, "WRONG", CUT, CUT, "cut 20 %"),
    ),
    Row(
        name="stall of one connection",
        faults=_once(lambda at: Stall(times=1, at=at, seconds=3.0)),
        hasty=True,
        within=2.9,
        peers=("cut", SPLICED, "cut", "cut", "cut"),
    ),
    Row(
        name="stall of the line",
        faults=_once(lambda at: Stall(at=at, seconds=1.5)),
        hasty=True,
        peers=("cut", SPLICED, "cut", "cut", "cut"),
    ),
    Row(
        name="slow drip",
        faults=lambda _: [Drip(rate=1e6)],
    ),
    Row(
        name="slow drip on one connection (0.4 B/s)",
        faults=lambda scene: [*scene.again(), Drip(times=1, rate=0.4)],
        destroys=1,
        hasty=True,
    ),
    Row(
        name="truncated (FIN)",
        faults=_once(lambda at: Fin(times=1, at=at)),
        gets=2,
        peers=("cut", SPLICED, "cut", "cut", "ok"),
    ),
    Row(
        name="truncated, Content-Length too",
        faults=_then(WrongLength(times=1, method="GET", by=-100_000)),
        destroys=1,
        peers=(KEPT_SHORT, "ok", KEPT_SHORT, KEPT_SHORT, KEPT_SHORT),
    ),
    Row(
        name="Content-Length too large",
        faults=_then(WrongLength(times=1, method="GET", by=100_000)),
        destroys=1,
    ),
    Row(
        name="first byte flipped",
        faults=lambda scene: [Corrupt(times=1, at=scene.low)],
        peers=(KEPT_WRONG,) * 5,
    ),
    Row(
        name="a byte in the middle flipped",
        faults=lambda scene: [Corrupt(times=1, at=(scene.low + SIZE) // 2)],
        peers=(KEPT_WRONG,) * 5,
    ),
    Row(
        name="last byte flipped",
        faults=lambda _: [Corrupt(times=1, at=SIZE - 1)],
        peers=(KEPT_WRONG,) * 5,
    ),
    Row(
        name="a byte flipped each time",
        faults=_once(lambda at: Corrupt(at=at)),
        invisible=False,
        destroys=3,
        lasts=True,
        peers=(KEPT_WRONG,) * 5,
    ),
    Row(
        name="upstream without Range",
        faults=lambda _: [NoRange()],
        destroys=4,
        peers=("ok",) * 5,
    ),
    Row(name="200 for 206 after a drop", faults=_after_a_drop(NoRange()), destroys=4),
    Row(
        name="206 with another range",
        faults=_after_a_drop(WrongRange(times=1, by=4096)),
        destroys=1,
    ),
    Row(name="206 shorter than asked", faults=_after_a_drop(LongRange(times=1, by=-50_000))),
    Row(
        name="206 longer than asked",
        faults=_after_a_drop(LongRange(times=1, by=50_000)),
        destroys=1,
    ),
    Row(
        name="chunked, no length",
        faults=lambda _: [NoLength(method="GET")],
        gets=1,
        peers=("ok", "500", "ok", "ok", "ok"),
    ),
    Row(
        name="chunked, and a drop",
        faults=_after_a_drop(NoLength(method="GET")),
        gets=2,
        peers=("cut", "500", "cut", "cut", "ok"),
    ),
    Row(
        name="chunked, more than the file",
        faults=lambda _: [NoLength(times=1, method="GET", surplus=bytes(10_000))],
    ),
    Row(
        name="validator left out, and a drop",
        faults=_after_a_drop(NoValidator()),
        gets=2,
    ),
    Row(
        name="two validators, and five drops",
        faults=lambda scene: [*_five_drops(scene), Nodes()],
        gets=6,
    ),
    Row(
        name="labelled Content-Encoding: gzip",
        faults=lambda scene: [*scene.again(), Encoding(method="GET")],
        gets=2,
    ),
    Row(
        name="labelled Content-Encoding: x-gzip, no length",
        faults=lambda scene: [*scene.again(), Encoding(name="x-gzip"), NoLength()],
        gets=2,
    ),
    Row(
        name="HEAD refused, and a drop",
        faults=lambda scene: [scene.drop()],
        early=(Status(code=500, method="HEAD"),),
        gets=3,
    ),
    Row(
        name="HEAD with length 0",
        early=(WrongLength(by=-SIZE, method="HEAD"),),
        gets=2,
    ),
    Row(
        name="no length anywhere, until it closes",
        faults=lambda scene: [*scene.again(), RawHead(head=b"HTTP/1.0 200 OK\r\n\r\n")],
        early=(RawHead(head=b"HTTP/1.0 200 OK\r\n\r\n", method="HEAD"),),
        destroys=4,
    ),
    Row(
        name="replaced",
        replaced=True,
        invisible=False,
        destroys=3,
        lasts=True,
        peers=("ok, new",) * 5,
    ),
    Row(
        name="replaced midway, the old goes on",
        faults=lambda scene: [Change(times=1, at=scene.somewhere(), body=scene.other())],
        invisible=False,
        destroys=3,
        lasts=True,
        peers=("ok, old", "WRONG, kept", "ok, old", "ok, old", "ok, old"),
    ),
    Row(
        name="replaced midway, and a drop",
        faults=lambda scene: [Change(times=1, at=scene.somewhere(), body=scene.other(), drop=True)],
        invisible=False,
        destroys=5,  # two tries for each wrong operation, and three rounds in which nobody got a byte
        lasts=True,
        peers=("WRONG", "WRONG, kept", "WRONG", "WRONG", "restarts at 0"),
    ),
    Row(
        name="404, then well",
        faults=_then(Status(times=1, code=404)),
        invisible=False,
        destroys=1,
        peers=("404; next ok", "404; next ok", "404 for 2 min", "404; next ok", "404; next ok"),
    ),
    Row(name="500, then well", faults=_then(Status(times=1, code=500))),
    Row(
        name="503 with Retry-After, then well",
        faults=_then(Status(times=1, code=503, retry_after="1")),
        peers=(PASSED,) * 5,
    ),
    Row(name="429, then well", faults=_then(Status(times=1, code=429, retry_after="1"))),
    Row(
        name="redirected",
        faults=lambda scene: [*scene.again(), Redirect(location=ELSEWHERE + scene.path)],
        peers=("302 passed on", "ok", "302 passed on", "302 passed on", "ok"),
    ),
    Row(
        name="redirected to a signed address",
        faults=lambda scene: [
            *scene.again(),
            Redirect(location=f"{ELSEWHERE}{scene.path}?{SIGNATURE}"),
        ],
    ),
    Row(
        name="redirected to a stranger",
        faults=_then(Redirect(location="http://198.51.100.1/update.gz")),
        invisible=False,
        destroys=1,
    ),
    Row(name="closed without an answer", faults=_then(Hangup(times=2))),
    Row(
        name="refused for a second",
        refuses=1.0,
        peers=("502", "502", "503", "503", "503"),
    ),
    Row(name="log full, and five drops", faults=_five_drops, gets=6, log="full"),
    Row(name="log stalled, and five drops", faults=_five_drops, gets=6, log="unread"),
    Row(
        name="clock nine years ahead and back, and five drops",
        faults=_five_drops,
        gets=6,
        prelude=AHEAD,
    ),
    Row(name="clock at 1970 and back, and five drops", faults=_five_drops, gets=6, prelude=BEHIND),
)


def _truncated(blob: Path, body: bytes) -> None:
    os.truncate(blob, SIZE // 3)


def _emptied(blob: Path, body: bytes) -> None:
    os.truncate(blob, 0)


def _flipped(blob: Path, body: bytes) -> None:
    at = SIZE // 2
    with blob.open("r+b") as file:
        file.seek(at)
        file.write(bytes([body[at] ^ 1]))


def _linked(blob: Path, body: bytes) -> None:
    elsewhere = blob.with_suffix(".tmp")
    elsewhere.write_bytes(bytes(len(body)))
    blob.unlink()
    blob.symlink_to(elsewhere)


def _folder(blob: Path, body: bytes) -> None:
    blob.unlink()
    blob.mkdir()


DISK_ROWS: tuple[Row, ...] = (
    Row(name="no sendfile", prelude=NO_SENDFILE),
    Row(name="blob truncated on disk", damage=_truncated),
    Row(name="blob emptied on disk", damage=_emptied),
    Row(name="a bit of the blob flipped on disk", damage=_flipped),
    Row(name="a link in place of the blob", damage=_linked),
    Row(name="a folder in place of the blob", damage=_folder),
)
ROWS += DISK_ROWS


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of one cell.

    Attributes:
        kind, count: the clients.
        words: how their downloads ended.
        after: how that of the next client ended, with the fault healed.
        answers: what those who hold wrong bytes were answered when they asked for the rest once more.
        fetched: bytes that upstream sent.
        gets: requests that upstream got.
        seconds: until the last client was done.
    """

    kind: Kind
    count: int
    words: tuple[str, ...]
    after: str
    answers: tuple[str, ...]
    fetched: int
    gets: int
    seconds: float

    def broken(self, row: Row, state: State) -> list[str]:
        """What is not as it must be."""
        wrong = [word for word in (*self.words, self.after) if word in ("WRONG", "SHORT")]
        found = [f"{word} bytes with success" for word in wrong]
        if (row.invisible or state == "full") and set(self.words) != {"ok"}:
            found.append(f"visible to clients: {', '.join(sorted(set(self.words)))}")
        if self.after not in (("ok", "status 502") if row.lasts else ("ok",)):
            found.append(f"the next client: {self.after}")
        if set(self.answers) - {"status 416"}:
            found.append(f"a client with wrong bytes was given the rest: {self.answers}")
        is_whole = state == "full" and row.damage is None
        most = 0 if is_whole else SIZE * (1 + row.destroys) + SLACK
        if self.fetched > most:
            found.append(f"{self.fetched} bytes fetched, at most {most} were needed")
        enough = row.gets if state != "full" and self.kind != "ranged" else None
        if enough is not None and self.gets > enough:
            found.append(f"{self.gets} upstream requests instead of {enough}")
        if row.within is not None and self.seconds > row.within:
            found.append(f"took {self.seconds:.1f} s, must take {row.within} s at most")
        return found
