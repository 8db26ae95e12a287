"""Policy: where a rule leads the machines of a track, and the decision for one of them. Pure functions."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from omaha_mirror.catalog.model import BOARDS, LookupResult, Release, Step, needed_packages
from omaha_mirror.config.rules import Follow, Hold, Pin, Rule
from omaha_mirror.omaha import AppRequest, BadVersion, Version
from omaha_mirror.reasons import Effect, Reason

SHORTEST_POLL, LONGEST_POLL = 45 * 60, 4 * 3600
"""Seconds between which update_engine heeds a PollInterval (update_engine/update_check_scheduler.cc:106)."""
END_OF_TIME = datetime.max.replace(tzinfo=UTC).timestamp() - 1


def allowed(rule: Rule, steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps of a track that a rule allows.

    Args:
        rule: of the track.
        steps: where it leads for an app and board: oldest first, readable versions, the target last.
    """
    match rule:
        case Hold():
            return ()
        case Pin(skip_floors=True):
            return tuple(steps[-1:])
        case Follow(max_version=str(newest)):
            top = Version.parse(newest)
            return tuple(step for step in steps if Version.parse(step.version) <= top)
        case _:
            return tuple(steps)


def leads_to(rule: Rule, steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps that a rule leads the machines of a track through, oldest first: the floors, and the target.

    See `state` for when the first machines get a step. For the arguments see `allowed`.
    """
    steps = allowed(rule, steps)
    return (*(step for step in steps[:-1] if step.floor), *steps[-1:])


def due(rule: Rule, steps: Sequence[Step], now: float) -> tuple[Step, ...]:
    """The steps of `leads_to` up to the last one whose delay is over."""
    count = len(steps)
    while count and now < begins(rule, steps[count - 1], now):
        count -= 1
    return tuple(steps[:count])


def state(rule: Rule, step: Step, now: float) -> Reason:
    """`OFFERED` if the first machines of a track get a step now, else why not; `now` as in `decide`."""
    reason, _ = availability(rule, "", step.known)
    return Reason.DELAYED if reason is Reason.OFFERED and now < begins(rule, step, now) else reason


def begins(rule: Rule, step: Step, now: float) -> float:
    """When the first machines get a step, in seconds since the epoch."""
    return min(step.seen, now) + rule.delay if isinstance(rule, Follow) else 0.0


def availability(rule: Rule, oem: str, known: LookupResult) -> tuple[Reason, str]:
    """`OFFERED` if all packages that machines with this OEM need are available, else why not; and the detail."""
    if known.release is None:
        return known.reason, known.detail
    needed = needed_packages(rule, oem)
    own = rule.packages if isinstance(rule, Pin) else ()
    if unasked := known.unasked(needed, own):
        return Reason.WARMING, ", ".join(sorted(unasked))
    if (known.lacking or own) and (lacking := _lacking(known.release, known, needed, own)):
        return Reason.INCOMPLETE, "; ".join(
            f"{name}: {why}" for name, why in sorted(lacking.items())
        )
    return Reason.OFFERED, ""


def _lacking(
    release: Release, known: LookupResult, needed: frozenset[str], own: Sequence[str]
) -> dict[str, str]:
    """The needed packages that are not available, and why; `own` are those that the rule adds."""
    lacking = {name: known.lacking[name] for name in needed if name in known.lacking}
    for name in own:
        if release.file(name) is None:
            lacking.setdefault(name, "upstream has no such file")
    return lacking


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision for a machine's check.

    Attributes:
        reason: of the decision.
        release: the offered one, None for `noupdate`.
        detail: of the reason, for people.
        poll_interval: seconds to the machine's next check; None for its own interval.
        version: the next one for the machine, to be looked up; None if there is none.
        is_relayed: whether the machine's reports were for upstream to take with the check.
    """

    reason: Reason
    release: Release | None = None
    detail: str = ""
    poll_interval: int | None = None
    version: str | None = None
    is_relayed: bool = False

    @property
    def words(self) -> str:
        """The reason as a sentence for people."""
        return self.reason.sentence(self.detail)


def decide(
    app: AppRequest,
    rule: Rule,
    steps: Sequence[Step],
    *,
    now: float,
    app_ids: Collection[str],
    boards: Collection[str] = BOARDS,
    nothing: tuple[Reason, str] = (Reason.WARMING, ""),
) -> Decision:
    """Decide a machine's check. No decision is an error at the machine.

    update_engine does not compare the offered version with its own (update_engine/omaha_request_action.cc:344), so
    downgrades and reinstalls are prevented here.

    Args:
        app: the machine's request.
        rule: of the machine's track.
        steps: where the track leads for this app and board: oldest first, readable versions, the target last. A pin's
            target is the pin, known or not, after the floors below it; a relayed machine's is upstream's offer.
        now: a time that has surely passed, in seconds since the epoch.
        app_ids: the applications that this mirror serves.
        boards: the boards with releases.
        nothing: why there are no steps, as a reason and its detail.
    """
    if (refused := refuse(app, rule, app_ids, boards)) is not None:
        return refused
    step = _step(app, rule, steps, Version.parse(app.version)) if steps else _no(*nothing)
    if isinstance(step, Decision):
        return step
    decision = _not_yet(app, rule, step, now)
    if decision is None:
        reason, detail = availability(rule, app.oem, step.known)
        if reason is Reason.OFFERED:
            return Decision(reason, step.known.release, version=step.version)
        decision = _no(reason, detail)
    return replace(decision, version=step.version)


def refuse(
    app: AppRequest, rule: Rule, app_ids: Collection[str], boards: Collection[str] = BOARDS
) -> Decision | None:
    """The decision for a machine that gets no update whatever releases exist; None for any other machine."""
    if app.app_id not in app_ids:
        return Decision(Reason.UNKNOWN_APP)
    if isinstance(rule, Hold):
        return Decision(rule.reason)
    if app.board not in boards:
        return Decision(Reason.UNKNOWN_BOARD)
    try:
        Version.parse(app.version)
    except BadVersion as error:
        return Decision(Reason.VERSION_UNREADABLE, detail=str(error))
    return None


def has_prefix(version: str, prefix: str) -> bool:
    """Whether a version matches a `targetversionprefix`.

    As in Omaha 3, the parts between the dots must be equal: `1.2.3` matches `1.2.3.4` and not `1.2.34`; a version with
    `$` after it matches itself alone.
    """
    if prefix.endswith("$"):
        return version == prefix[:-1]
    parts = prefix.removesuffix(".").split(".")
    return not prefix or version.split(".")[: len(parts)] == parts


def _step(app: AppRequest, rule: Rule, steps: Sequence[Step], has: Version) -> Step | Decision:
    """The next step of a machine with the version `has`: the first floor above it, else the target."""
    ahead = [step for step in allowed(rule, steps) if Version.parse(step.version) > has]
    if not ahead:
        if isinstance(rule, Follow):
            above = [step.version for step in steps if Version.parse(step.version) > has]
            if above:
                return Decision(Reason.ABOVE_MAX, detail=f"{above[0]} > {rule.max_version}")
        if not isinstance(rule, Pin) or Version.parse(steps[-1].version) == has:
            return Decision(Reason.UP_TO_DATE)
        if not rule.allow_downgrade:
            return Decision(Reason.NEWER)
        ahead = [steps[-1]]
    prefix = app.update_check.targetversionprefix if app.update_check is not None else ""
    if prefix:
        wanted = [count for count, step in enumerate(ahead, 1) if has_prefix(step.version, prefix)]
        if not wanted:
            return Decision(Reason.OTHER_PREFIX, detail=prefix)
        ahead = ahead[: wanted[-1]]
    return next((step for step in ahead if step.floor), ahead[-1])


def _not_yet(app: AppRequest, rule: Rule, step: Step, now: float) -> Decision | None:
    """The decision for a machine that must wait for the track's delay or ramp; None if it need not."""
    if not isinstance(rule, Follow) or not (rule.delay or rule.ramp):
        return None
    first = begins(rule, step, now)
    turn = first + rule.ramp * _place(app.machineid, step.version)
    if now >= turn:
        return None
    poll = min(max(math.ceil(turn - now), SHORTEST_POLL), LONGEST_POLL)
    when = datetime.fromtimestamp(min(math.ceil(turn), END_OF_TIME), UTC)
    detail = f"{step.version} from {when:%Y-%m-%d %H:%M:%S} UTC"
    if step.seen > now:
        detail = f"{step.version}: that time begins when this mirror's clock is known to be right"
    return Decision(Reason.DELAYED if now < first else Reason.NOT_ITS_TURN, None, detail, poll)


def _place(machineid: str, version: str) -> float:
    """A machine's place in the ramp of a version, in [0, 1): always the same. A machine without an id has 1, the last."""
    if not machineid:
        return 1.0
    text = f"{machineid} {version}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:6]) / 2**48


def _no(reason: Reason, detail: str) -> Decision:
    """`noupdate`, with an early next check if the reason may pass by itself."""
    soon = Effect.RETRIES in reason.effect
    return Decision(reason, None, detail, SHORTEST_POLL if soon else None)
