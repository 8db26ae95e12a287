"""A schedule for each seed: what goes wrong is weighted so that things that seldom meet do meet."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from types import MappingProxyType
from typing import TypeVar

from tests.sim.releases import EXTENSION, OEM, OLD, SHAPES, Release
from tests.sim.schedule import (
    ELSEWHERE,
    OMAHA,
    OMAHA_PORT,
    RELEASE_PORT,
    Act,
    Armed,
    ClockJump,
    DiskTrouble,
    Doing,
    End,
    EndHow,
    Event,
    LineHow,
    Link,
    LinkTrouble,
    MachineKind,
    MachinePlan,
    Publish,
    Refuse,
    Rot,
    Schedule,
    Settings,
)
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

T = TypeVar("T")
BARE = "3941.1.0"
"""Not known to the Omaha server."""
VERSIONS = ("3815.2.1", "3815.2.5", "4081.1.0")
BUSY = 12.0
"""Seconds from the beginning in which most things happen."""
LATER = (600.0, 2800.0, 3600.0)


def generate(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = Random(f"schedule {seed}")
    releases = _releases(rng)
    settings = _settings(rng)
    machines = tuple(_machine(rng, number, settings) for number in range(1, rng.randint(2, 6)))
    events: list[Event] = []
    for make, weight in _SOURCES:
        while rng.random() < weight:
            events += make(rng, releases, settings)
            weight *= 0.75
    bare = replace(rng.choice(SHAPES), version=BARE, with_extras=False)
    if any(machine.track == "lts" for machine in machines):
        events += _bare(rng, bare)
    return Schedule(
        seed=seed,
        settings=settings,
        releases=releases,
        bare=bare,
        machines=machines,
        events=tuple(sorted(events, key=lambda event: event.at)),
    )


def _releases(rng: Random) -> tuple[Release, ...]:
    count = rng.choices((1, 2, 3), (60, 30, 10))[0]
    shapes = rng.sample(SHAPES, count)
    return tuple(
        replace(shape, version=version)
        for shape, version in zip(shapes, VERSIONS[:count], strict=True)
    )


def _settings(rng: Random) -> Settings:
    limits: dict[str, float] = {}
    if rng.random() < 0.3:
        limits["record_bytes"] = rng.choice((8192, 32768))
    if rng.random() < 0.3:
        limits["trickle_seconds"] = rng.choice((0.2, 1.0))
    if rng.random() < 0.3:
        limits["proof_seconds"] = rng.choice((0.5, 3.0))
    if rng.random() < 0.2:
        limits["pending"] = rng.choice((16384, 65536))
    if rng.random() < 0.4:
        limits["proof_seconds"] = rng.choice((0.0, 2.0))
    return Settings(
        hold_back=rng.choice((1, 4096, 16384, 16384, 1 << 20)),
        max_connections=rng.choice((1, 2, 4, 4)),
        max_fills=rng.choice((1, 3, 3)),
        rate_limit=_rarely(rng, 0.1, 100_000),
        max_size=_rarely(rng, 0.1, 200_000) or 1 << 30,
        when_abandoned=rng.choice(("finish", "finish", "stop")),
        forward_events=rng.choice(("all", "all", "all", "anonymous", "none")),
        link=replace(
            _link(rng, 0.02),
            rate=rng.choice((8e3, 20e3, 20e3, 50e3, 200e3, 2e6)),
            buffer=rng.choice((4096, 16384)),
        ),
        second=rng.random() < 0.12,
        limits=MappingProxyType(limits),
    )


def _rarely(rng: Random, chance: float, value: T) -> T | None:
    return value if rng.random() < chance else None


def _link(rng: Random, latency: float) -> Link:
    return Link(
        latency=latency * rng.choice((0.1, 1, 1, 5)),
        rate=rng.choice((20e3, 200e3, 2e6, 20e6)),
        segment=rng.choices((536, 1460, 4096, 16384, 65536), (1, 3, 4, 4, 4))[0],
        buffer=rng.choice((4096, 16384, 131072)),
    )


def _machine(rng: Random, number: int, settings: Settings) -> MachinePlan:
    kinds: Sequence[MachineKind] = ("update_engine", "curl", "ranges")
    at = rng.choice((0.0, rng.uniform(0, 3), rng.uniform(0, 3), _when(rng)))
    stops = [at + 0.1 + _when(rng) for _ in range(rng.choices((0, 1, 2), (6, 3, 1))[0])]
    return MachinePlan(
        number=number,
        at=at,
        kind=rng.choices(kinds, (60, 20, 20))[0],
        track=rng.choices(("stable", "beta", "prod", "edge", "lts"), (70, 12, 4, 8, 6))[0],
        version=OLD,
        oem=rng.choice(("", "", "azure")),
        link=_link(rng, 0.002),
        mirror=2 if settings.second and rng.random() < 0.7 else 1,
        stops=tuple(sorted(stops)),
        seed=rng.getrandbits(32),
    )


def _when(rng: Random) -> float:
    """Most in the first seconds, some while clients wait to come back, few in a later hour."""
    return rng.choices(
        (rng.uniform(0, 2), rng.uniform(0, BUSY), rng.uniform(0, 120), rng.choice(LATER)),
        (35, 45, 15, 5),
    )[0]


# Upstream


def _place(rng: Random, release: Release) -> int:
    """Of a byte in a payload: at a seam, or anywhere."""
    marks = release.marks
    size = marks[-1]
    seam = rng.choice(marks) + rng.choice((-1, 0, 0, 1))
    chosen = rng.choice((seam, size - 1, marks[-2], rng.randrange(size), rng.randrange(marks[1])))
    return min(max(chosen, 0), size - 1)


def _faults(rng: Random, release: Release, name: str) -> list[Fault]:
    size = len(release.files[name])
    payload = name not in (OEM, EXTENSION)

    def somewhere() -> int:
        return _place(rng, release) if payload else rng.randrange(size)

    drop = Drop(times=1, at=somewhere())
    times = rng.choice((1, 1, 1, 2, 3))
    choices: Sequence[tuple[Callable[[], list[Fault]], int]] = (
        (lambda: [drop], 14),
        (lambda: [Fin(times=times, at=somewhere())], 6),
        (lambda: [Stall(times=1, at=somewhere(), seconds=rng.choice((1, 7, 30, 100)))], 10),
        (lambda: [Corrupt(times=times, at=somewhere())], 24),
        (lambda: [drop, NoRange(times=times)], 5),
        (lambda: [drop, WrongRange(times=1, by=rng.choice((-4096, -1, 1, 4096)))], 5),
        (lambda: [drop, LongRange(times=1, by=rng.choice((-5000, -1, 1, 5000)))], 4),
        (lambda: [WrongLength(times=1, method="GET", by=rng.choice((-1000, -1, 1, 1000)))], 5),
        (lambda: [NoLength(times=times, surplus=rng.choice((b"", b"", b"surplus")))], 4),
        (lambda: [NoValidator(times=times)], 3),
        (lambda: [Nodes(times=times, count=2), drop], 4),
        (lambda: [Encoding(times=times, name=rng.choice(("gzip", "x-gzip")))], 3),
        (lambda: [Drip(times=1, rate=rng.choice((5, 20, 1000)))], 5),
        (lambda: [Status(times=times, code=rng.choice((404, 500, 503, 429)))], 8),
        (lambda: [Hangup(times=times)], 5),
        (lambda: [Redirect(times=times, location=ELSEWHERE + release.path(name))], 4),
        (lambda: [RawHead(times=1, head=b"HTTP/1.0 200 OK\r\n\r\n")], 2),
        (lambda: [_change(rng, release, name, somewhere())], 5),
        (lambda: [_other_size(release, somewhere())], 3),
    )
    make = rng.choices([made for made, _ in choices], [weight for _, weight in choices])[0]
    return make()


def _change(rng: Random, release: Release, name: str, at: int) -> Fault:
    """Other bytes of the same size, as right in themselves where it is a payload."""
    body = release.files[name][::-1] if name in (OEM, EXTENSION) else release.forged
    return Change(times=1, at=at, body=body, drop=rng.random() < 0.5)


def _other_size(release: Release, at: int) -> Fault:
    """A file of another size, for a while, after a drop: no byte of it belongs to the package."""
    return Change(times=1, at=at, body=release.payload[:-1000][::-1], drop=True)


def _bare(rng: Random, bare: Release) -> list[Event]:
    """What upstream does to the release of which nothing but its validator tells the generation."""
    at = _place(rng, bare)
    drop, path = Drop(times=1, at=at), bare.path()
    faults: Sequence[list[Fault]] = (
        [drop],
        [drop, NoRange(times=3)],
        [Change(times=1, at=at, body=bare.forged, drop=True)],
        [Change(times=1, at=at, body=bare.forged, drop=True), NoRange(times=3)],
        [Change(times=1, at=at, body=bare.forged, drop=True), NoValidator(times=1)],
        [drop, Nodes(times=2, count=2)],
        [Change(times=1, at=0, body=bare.longer, drop=True)],
    )
    return [Armed(at=0.0, path=path, fault=fault) for fault in rng.choice(faults)]


def _upstream(rng: Random, releases: tuple[Release, ...], _: Settings) -> list[Event]:
    release = rng.choices(releases, [3, *(1 for _ in releases[1:])])[0]
    name = rng.choice((*release.files, *list(release.files)[:1] * 3))
    at = rng.choice((0.0, _when(rng)))
    return [
        Armed(at=at, path=release.path(name), fault=fault) for fault in _faults(rng, release, name)
    ]


def _omaha(rng: Random, _: tuple[Release, ...], __: Settings) -> list[Event]:
    fault = rng.choice(
        (
            Status(times=rng.choice((2, 40)), code=503),
            Status(times=1, code=500),
            Hangup(times=2),
            Stall(times=1, at=0, seconds=rng.choice((3, 40))),
            Drop(times=1, at=rng.choice((0, 50))),
            RawHead(times=1, head=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html"),
        )
    )
    return [Armed(at=_when(rng), path=OMAHA, fault=fault)]


def _publish(rng: Random, releases: tuple[Release, ...], _: Settings) -> list[Event]:
    track = rng.choice(("stable", "stable", "edge"))
    return [
        Publish(at=_when(rng) + 30.0 * number, version=release.version, track=track)
        for number, release in enumerate(releases[1:])
    ]


def _refuse(rng: Random, _: tuple[Release, ...], __: Settings) -> list[Event]:
    port = rng.choice((RELEASE_PORT, RELEASE_PORT, OMAHA_PORT))
    return [Refuse(at=_when(rng), port=port, seconds=rng.choice((0.5, 5, 100, 1000)))]


# Everything else


def _act(rng: Random, releases: tuple[Release, ...], _: Settings) -> list[Event]:
    version = rng.choice(releases).version
    track = rng.choices(("stable", "beta", "prod", "edge"), (60, 15, 15, 10))[0]
    at = _when(rng)
    what = rng.choices(
        ("rule", "reload", "remove", "gc", "verify", "import"), (45, 10, 20, 5, 12, 8)
    )[0]
    match what:
        case "rule":
            rules: Sequence[Doing] = ("hold", "hold", "pin")
            first = rng.choice(rules)
            acts = [Act(at=at, what=first, track=track, version=version)]
            if rng.random() < 0.6:
                then = at + rng.choice((0.001, 1.0, 30.0, 3000.0))
                acts.append(Act(at=then, what="release", track=track))
            return list(acts)
        case "reload":
            return [Act(at=at, what="reload")]
        case "remove":
            return [Act(at=at, what="remove", version=version)]
        case "gc":
            return [Act(at=at, what="gc")]
        case "verify":
            return [Act(at=at, what="verify")]
        case _:
            return [Act(at=at, what="import", track=track)]


def _end(rng: Random, _: tuple[Release, ...], settings: Settings) -> list[Event]:
    ways: Sequence[EndHow] = ("kill", "power", "stop")
    how = rng.choices(ways, (45, 35, 20))[0]
    change = rng.choice((0, rng.randint(1, 60)))
    return [
        End(
            at=_when(rng),
            how=how,
            change=0 if how == "stop" else change,
            seconds=rng.choice((0.1, 1.0, 30.0)),
            mirror=2 if settings.second and rng.random() < 0.3 else 1,
        )
    ]


def _line(rng: Random, _: tuple[Release, ...], __: Settings) -> list[Event]:
    who = rng.choice(("upstream", *(f"machine {number}" for number in range(1, 4))))
    ways: Sequence[LineHow] = ("stall", "reset", "reset", "fin", "refuse", "lost", "slow")
    how = rng.choice(ways)
    seconds = 0.0 if how in ("reset", "fin") else rng.choice((0.5, 6.0, 40.0, 200.0))
    return [
        LinkTrouble(
            at=_when(rng), who=who, how=how, seconds=seconds, rate=rng.choice((8, 200, 5000))
        )
    ]


def _disk(rng: Random, _: tuple[Release, ...], __: Settings) -> list[Event]:
    at = _when(rng)
    if (coin := rng.random()) < 0.15:
        return [DiskTrouble(at=at, kind="hang", seconds=rng.choice((2.0, 20.0)))]
    if coin < 0.35:
        return [DiskTrouble(at=at, kind="full", seconds=rng.choice((5.0, 60.0)))]
    kind = rng.choice(
        ("open", "read", "write", "write", "sync", "sync", "rename", "unlink", "mkdir", "stat")
    )
    return [
        DiskTrouble(
            at=at,
            kind=kind,
            what=rng.choice(("EIO", "ENOSPC", "EINTR", "short")) if kind == "write" else "EIO",
            nth=rng.randint(1, 12),
            times=rng.choice((1, 1, 3)),
            path=rng.choice(("", "cache/", "state/")),
            seconds=rng.choice((1.0, 60.0)),
        )
    ]


def _clock(rng: Random, _: tuple[Release, ...], __: Settings) -> list[Event]:
    return [
        ClockJump(
            at=_when(rng),
            by=rng.choice((-3e8, -7200.0, 7200.0, 3e8)),
            seconds=rng.choice((1.0, 100.0, 4000.0)),
        )
    ]


def _rot(rng: Random, _: tuple[Release, ...], __: Settings) -> list[Event]:
    at = BUSY + _when(rng)
    return [End(at=at, how="kill", seconds=30.0), Rot(at=at + 1.0, where=rng.random())]


_SOURCES: Sequence[tuple[Callable[[Random, tuple[Release, ...], Settings], list[Event]], float]] = (
    (_upstream, 0.85),
    (_omaha, 0.2),
    (_publish, 0.35),
    (_refuse, 0.15),
    (_act, 0.45),
    (_end, 0.4),
    (_line, 0.4),
    (_disk, 0.25),
    (_clock, 0.1),
    (_rot, 0.06),
)
"""What makes events, and how likely the first of each is."""
