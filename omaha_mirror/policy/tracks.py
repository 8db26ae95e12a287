"""Where tracks lead: the one answer for fetch, export, pages, API, readiness and metrics.

Decisions for machines follow from the same steps and rules; see `decide`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import in_slices
from omaha_mirror.catalog import (
    BOARDS,
    Catalog,
    ChannelStatus,
    Follow,
    Hold,
    LookupResult,
    Relay,
    Release,
    Rule,
    Step,
)
from omaha_mirror.catalog.channel import StepStatus
from omaha_mirror.config.rules import depends_on_track, track_upstream
from omaha_mirror.policy.decide import due, leads_to, state
from omaha_mirror.policy.track_rules import TrackRules
from omaha_mirror.reasons import Effect, Reason


class NothingToFetch(Exception):
    """There is no release; the message says why. `unreachable` is whether upstream gave no answer."""

    def __init__(self, message: str, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.unreachable = unreachable

    @classmethod
    def because(cls, what: str, reason: Reason, detail: str) -> NothingToFetch:
        """The exception for a reason and its detail."""
        unanswered = Effect.UNANSWERED in reason.effect
        return cls(f"{what}: {reason.sentence(detail)}", unreachable=unanswered)


@dataclass(frozen=True, slots=True)
class TrackPath:
    """Where a track leads machines of one application and board.

    Attributes:
        status: for operators: the steps under the rule of the track, each with `OFFERED` or why the first machines do
            not get it now.
        steps: the same steps with their look-up results.
        due: those of them whose delay is over, and the floors before these.
        channel: the status of the channel upstream; None if upstream is not asked.
    """

    status: ChannelStatus
    rule: Rule
    steps: tuple[Step, ...]
    due: tuple[Step, ...]
    channel: ChannelStatus | None = None

    @property
    def offered(self) -> StepStatus | None:
        """The last step that machines are offered now."""
        found = [step for step in self.status.steps if step.state is Reason.OFFERED]
        return found[-1] if found else None


class Tracks:
    """Computes where tracks lead.

    Args:
        catalog: of releases.
        rules: of the tracks.
        judged: adds to a step what the cache knows of its packages.
        app_ids: the applications that this mirror serves.
        clock: tells the time.
    """

    def __init__(
        self,
        catalog: Catalog,
        rules: TrackRules,
        judged: Callable[[Step], Step],
        app_ids: Collection[str],
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._rules = rules
        self._judged = judged
        self._app_ids = app_ids
        self._clock = clock

    # For operators

    async def channels(self) -> list[ChannelStatus]:
        """The status of all channels."""
        return await self._catalog.channels(self._judged)

    async def paths(self, also: Iterable[str] = ()) -> list[TrackPath]:
        """The paths of all tracks with a channel or an offer, sorted by track.

        These are the tracks of the config, of overrides and of channels, and `also` these.
        """
        channels = await self.channels()
        named = {*self._rules.named(), *(channel.track for channel in channels), *also} - {""}
        return await in_slices(self._paths(sorted(named), channels))

    async def of(self, track: str) -> list[TrackPath]:
        """The paths of one track."""
        return list(self._paths([track], await self.channels()))

    def _paths(
        self, tracks: Iterable[str], channels: Iterable[ChannelStatus]
    ) -> Iterator[TrackPath]:
        of = {(c.track, c.app_id, c.board): c for c in channels}
        pairs = sorted({*product(self._app_ids, BOARDS), *((a, b) for _, a, b in of)})
        shared: dict[tuple[str, str, Rule], TrackPath | None] = {}
        for track in tracks:
            rule = self._rules(track)
            upstream = track_upstream(track, rule)
            for pair in pairs:
                # A bundle has the machines' name of the track.
                channel = of.get((upstream, *pair)) or of.get((track, *pair))
                if channel is not None:
                    yield self.path(*pair, track, rule, channel)
                elif depends_on_track(rule):
                    if path := self._offered(*pair, track, rule):
                        yield path
                else:
                    key = (*pair, rule)
                    if key not in shared:
                        shared[key] = self._offered(*pair, track, rule)
                    if path := shared[key]:
                        yield replace(path, status=replace(path.status, track=track))

    def _offered(self, app_id: str, board: str, track: str, rule: Rule) -> TrackPath | None:
        """The path of a track without a channel; None if it has no offer."""
        known = (step.known for step in self._catalog.steps(app_id, board, track, rule))
        if all(found.release is None for found in known):
            return None
        path = self.path(app_id, board, track, rule)
        return path if path.offered is not None else None

    def path(
        self,
        app_id: str,
        board: str,
        track: str,
        rule: Rule,
        channel: ChannelStatus | None = None,
    ) -> TrackPath:
        """The path of a track with this rule; `channel` is its status upstream, if it is followed."""
        now = self._clock.at_least()
        all_steps = self._catalog.steps(app_id, board, track, rule)
        steps = tuple(map(self._judged, leads_to(rule, all_steps)))
        states = tuple(
            StepStatus(s.version, s.floor, min(s.seen, now), state(rule, s, now)) for s in steps
        )
        reason, detail = Reason.OFFERED, ""
        if not steps:
            reason, detail = self._nothing(app_id, board, track, rule, all_steps)
        elif channel is not None:
            detail = channel.detail
        empty = ChannelStatus(app_id, board, track, (), reason, "", "", 0.0, 0.0, 0.0)
        status = replace(channel or empty, track=track, steps=states, reason=reason, detail=detail)
        return TrackPath(status, rule, steps, due(rule, steps, now), channel)

    def _nothing(
        self, app_id: str, board: str, track: str, rule: Rule, steps: tuple[Step, ...]
    ) -> tuple[Reason, str]:
        """Why a track has no steps."""
        if isinstance(rule, Hold):
            return rule.reason, ""
        if steps and isinstance(rule, Follow):
            return Reason.ABOVE_MAX, f"{steps[0].version} > {rule.max_version}"
        return self._catalog.nothing(app_id, board, track_upstream(track, rule))

    # For fetch and export

    async def ask(self, app_id: str, board: str, target: str, rule: Rule, wait: float) -> TrackPath:
        """The path of a track; waits at most `wait` seconds for upstream's first answer about it.

        Raises:
            NothingToFetch: it has no steps.
        """
        if isinstance(rule, Hold | Relay):
            mode = type(rule).__name__.lower()
            raise NothingToFetch(
                f"{target} is on {mode}: it has no release of its own; name a version"
            )
        if isinstance(rule, Follow) and wait:
            await self._catalog.follow(app_id, board, track_upstream(target, rule), wait)
        path = self.path(app_id, board, target, rule)
        if not path.steps:
            raise NothingToFetch.because(
                f"{target} for {board}", path.status.reason, path.status.detail
            )
        return path

    async def release(
        self,
        app_id: str,
        board: str,
        version: str,
        rule: Rule,
        wait: float,
        oems: Iterable[str] = (),
    ) -> Release:
        """The release of a version, looked up with the packages of these OEMs. It counts as a use.

        Raises:
            NothingToFetch: it is not available.
        """
        for oem in ("", *oems):
            known = self._catalog.known(app_id, board, version) or LookupResult()
            if not oem or known.release is None or known.release.file(f"oem-{oem}.gz") is None:
                await self._catalog.look_up(app_id, board, version, rule, oem, wait)
        known = self._catalog.known(app_id, board, version) or LookupResult()
        if known.release is None:
            raise NothingToFetch.because(f"{version} for {board}", known.reason, known.detail)
        return known.release
