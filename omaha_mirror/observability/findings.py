"""The findings of the health checks that wait for nothing: each says what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from omaha_mirror.aio.clock import SET_CLOCK, Clock
from omaha_mirror.catalog.channel import ChannelStatus
from omaha_mirror.observability.health import Finding, State
from omaha_mirror.policy.override_files import HOW
from omaha_mirror.policy.track_rules import Overrides
from omaha_mirror.policy.tracks import TrackPath

NAMED = 3
"""How many things a finding names."""


def tracks(channels: Iterable[ChannelStatus], now: float) -> Iterator[Finding]:
    """The state of each track that machines asked for. The mirror serves in any case.

    Args:
        channels: as operators see them.
        now: in seconds since the epoch.
    """
    for channel in channels:
        name = f"track {channel.track} {channel.board}"
        stuck = channel.stuck
        if channel.trouble:
            words = f"{channel.trouble}; {_last(channel.answered, now)}"
            yield Finding(name, State.DEGRADED, words)
        elif stuck is not None:
            yield Finding(name, State.DEGRADED, f"{stuck.version} is not offered: {stuck.state}")
        else:
            offers = channel.steps[-1].version if channel.steps else channel.detail or "no update"
            yield Finding(name, State.OK, offers)


class TrackCheck:
    """The check of `tracks` for a running mirror.

    Args:
        paths: gives where the tracks lead.
        clock: tells the time.
    """

    def __init__(self, paths: Callable[[], Awaitable[Sequence[TrackPath]]], clock: Clock) -> None:
        self._statuses: tuple[ChannelStatus, ...] | None = ()
        self._paths = paths
        self._clock = clock

    async def __call__(self) -> Iterable[Finding]:
        """Check them, in slices: there may be many."""
        try:
            self._statuses = tuple([path.status for path in await self._paths()])
        except Exception:
            self._statuses = None
            raise
        return tracks(self._statuses, self._clock.time())

    def statuses(self) -> tuple[ChannelStatus, ...]:
        """Those of the paths at the last check, none before the first. Raises RuntimeError if that check failed."""
        if self._statuses is None:
            raise RuntimeError("the last check of the tracks failed")
        return self._statuses


def _last(answered: float, now: float) -> str:
    if not answered:
        return "there was no good answer yet"
    return f"the last good answer came {timedelta(seconds=round(max(0.0, now - answered)))} ago"


def clock(clock: Clock) -> Iterator[Finding]:
    """Whether the time of day is known. It is no trouble but for releases that are delayed, and nothing is purged."""
    if not (trouble := clock.trouble()):
        yield Finding("clock", State.OK, "this machine's clock is right")
        return
    words = f"{trouble}: {WAITS}"
    wrong = clock.ahead_of_upstream is not None or clock.sure
    yield Finding("clock", State.DEGRADED if wrong else State.OK, words)


WAITS = f"until the time is known no delay ends and nothing is purged; {SET_CLOCK}"


def packages(wrong: Mapping[str, str]) -> Iterator[Finding]:
    """Whether upstream's bytes are those it announces.

    Args:
        wrong: packages whose bytes turned out wrong again and again, with the reason.
    """
    if wrong:
        named = "; ".join(f"{name}: {why}" for name, why in list(wrong.items())[:NAMED])
        words = f"{len(wrong)} not offered for now, as upstream's bytes are wrong: {named}"
        yield Finding("packages", State.DEGRADED, words)
    else:
        yield Finding("packages", State.OK, "upstream's bytes are right")


def redirects(refused: Iterable[str]) -> Iterator[Finding]:
    """Whether upstream redirects to hosts that are not allowed.

    Args:
        refused: such redirects, each with host and remedy.
    """
    if named := "; ".join(list(refused)[:NAMED]):
        yield Finding("redirects", State.DEGRADED, named)


def accepting(name: str, short: str) -> Iterator[Finding]:
    """Whether connections can be accepted.

    Args:
        name: of the listener.
        short: what is short; empty: nothing.
    """
    if short:
        words = (
            f"no connection can be accepted for now: {short}; raise LimitNOFILE of the unit, or see what has"
            " so many files open"
        )
        yield Finding(name, State.DEGRADED, words)


def log(trouble: str, lost: int) -> Iterator[Finding]:
    """Whether log lines can be written to standard error. The mirror serves in any case.

    Args:
        trouble: of standard error now, in words; empty where there is none.
        lost: lines since the start.
    """
    if trouble:
        words = (
            f"{trouble}; {lost} lines of the log were lost since the start, and machines are served on:"
            " see who reads the log, and whether its disk is full"
        )
        yield Finding("log", State.DEGRADED, words)
    else:
        yield Finding("log", State.OK, "standard error takes what is logged")


def signatures(untrusted: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the packages have a required signature.

    Args:
        untrusted: those that have not, with the reason.
    """
    if untrusted:
        named = "; ".join(f"{name}: {why}" for name, why in list(untrusted.items())[:NAMED])
        words = (
            f"{len(untrusted)} not offered, as no key of upstream.public_keys vouches for them: {named};"
            " if the vendor has a new key, add it and reload"
        )
        yield Finding("signatures", State.DEGRADED, words)


def token(trouble: str) -> Iterator[Finding]:
    """Whether the admin listener has a token; `trouble` says why not."""
    if trouble:
        yield Finding("token", State.DEGRADED, trouble)


def reading(directory: Path, hanging: int) -> Iterator[Finding]:
    """Whether the disk of the cache answers reads; `hanging` is the number of calls without an answer."""
    if hanging:
        words = (
            f"{hanging} calls wait for {directory} and are not answered: see the kernel's log (dmesg);"
            " the packages concerned pass through from upstream"
        )
        yield Finding("reading", State.DEGRADED, words)


def quarantine(immovable: Mapping[str, str]) -> Iterator[Finding]:
    """Whether damaged files of the cache can be put aside.

    Args:
        immovable: those that cannot, by their keys, with the reason.
    """
    if immovable:
        named = "; ".join(f"{key} {why}" for key, why in list(immovable.items())[:NAMED])
        words = (
            f"{len(immovable)} damaged files of the cache stay in the way, and their packages pass through from"
            f" upstream with each request: {named}; remove them by hand (lsattr shows immutable ones)"
        )
        yield Finding("quarantine", State.DEGRADED, words)


def overrides(given: Overrides) -> Iterator[Finding]:
    """What an operator must know of overrides that could not be read."""
    held = [override.track for override in given.all() if override.why != "given"]
    again = f"hold or pin again what was, then release: {HOW}"
    if given.unreadable is not None:
        words = (
            "what tracks were held or pinned at run time cannot be read, so no track is offered"
            f" anything: see {given.unreadable}; {again}"
        )
        yield Finding("overrides", State.DEGRADED, words)
    elif held:
        words = (
            f"{len(held)} tracks are held, as what they were given at run time cannot be read:"
            f" {', '.join(held[:NAMED])}; {again}"
        )
        yield Finding("overrides", State.DEGRADED, words)
