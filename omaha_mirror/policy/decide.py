"""Policy: where a rule leads the machines of a track, and what one of them is told. Pure functions over values."""

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
    """Those of the steps of a track that a rule lets machines have at all.

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

    The first machines get a step when its time has come and it can be had; see `state`. Takes what `allowed` takes.
    """
    steps = allowed(rule, steps)
    return (*(step for step in steps[:-1] if step.floor), *steps[-1:])


def due(rule: Rule, steps: Sequence[Step], now: float) -> tuple[Step, ...]:
    """Of what `leads_to` gives, the last step whose time has come, and all floors before it: none of them is skipped."""
    count = len(steps)
    while count and now < begins(rule, steps[count - 1], now):
        count -= 1
    return tuple(steps[:count])


def state(rule: Rule, step: Step, now: float) -> Reason:
    """`OFFERED` where the first machines of a track get a step now, or why they do not; `now` as in `decide`."""
    reason, _ = availability(rule, "", step.known)
    return Reason.DELAYED if reason is Reason.OFFERED and now < begins(rule, step, now) else reason


def begins(rule: Rule, step: Step, now: float) -> float:
    """When the first machines get a step, in seconds since the epoch."""
    return min(step.seen, now) + rule.delay if isinstance(rule, Follow) else 0.0


def availability(rule: Rule, oem: str, known: LookupResult) -> tuple[Reason, str]:
    """`OFFERED` where machines with this OEM can have all that they need of a version, or why not and its detail."""
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
    """What is needed and cannot be had, and why; `own` are the packages that the rule adds."""
    lacking = {name: known.lacking[name] for name in needed if name in known.lacking}
    for name in own:
        if release.file(name) is None:
            lacking.setdefault(name, "upstream has no such file")
    return lacking


@dataclass(frozen=True, slots=True)
class Decision:
    """What a machine is told.

    Attributes:
        reason: why.
        release: what it is offered, None for `noupdate`.
        detail: the same for people: what exactly, where, until when.
        poll_interval: seconds to the machine's next check, where another time than its own helps.
        version: the one that is meant for the machine, and that is worth looking up; None where there is none.
    """

    reason: Reason
    release: Release | None = None
    detail: str = ""
    poll_interval: int | None = None
    version: str | None = None

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
    """Decide what to tell a machine; whatever it is, it is no error at the machine.

    Nothing at the machine stops a downgrade or a reinstall: update_engine does not compare the offered version with
    its own (update_engine/omaha_request_action.cc:344). So it is stopped here.

    Args:
        app: the machine's question.
        rule: of the machine's track.
        steps: where the track leads for this app and board: oldest first, readable versions, the target last. A pin's
            target is the pin, known or not, after the floors below it; a relayed machine has what upstream told it.
        now: a time that has surely come, in seconds since the epoch.
        app_ids: the applications that this mirror answers for.
        boards: the boards that there can be releases for.
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
    """Why a machine gets no update whatever releases there are, so that upstream is not asked; None: it depends on them."""
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
    """Whether a version is one that a `targetversionprefix` asks for.

    As Omaha 3 defines it the parts between the dots must be equal: `1.2.3` stands for `1.2.3.4` and not for `1.2.34`,
    and a whole version with `$` behind it for itself alone.
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
    wanted = [count for count, step in enumerate(ahead, 1) if has_prefix(step.version, prefix)]
    if not wanted:
        return Decision(Reason.OTHER_PREFIX, detail=prefix)
    ahead = ahead[: wanted[-1]]
    return next((step for step in ahead if step.floor), ahead[-1])


def _not_yet(app: AppRequest, rule: Rule, step: Step, now: float) -> Decision | None:
    """Why a machine must wait for a release although it is there; None if it must not."""
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
    """Where in a ramp a machine's turn is, in [0, 1): always the same, and another one for each version.

    A machine without an id comes last, at 1.
    """
    if not machineid:
        return 1.0
    text = f"{machineid} {version}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:6]) / 2**48


def _no(reason: Reason, detail: str) -> Decision:
    """No update, and another check soon where the reason may pass by itself."""
    soon = Effect.RETRIES in reason.effect
    return Decision(reason, None, detail, SHORTEST_POLL if soon else None)
