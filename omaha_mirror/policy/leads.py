"""Where a rule leads the machines of a track: what holds for all of them. `decide` says what one of them is told."""

from __future__ import annotations

from collections.abc import Sequence

from omaha_mirror.catalog.model import LookupResult, Release, Step, needed_packages
from omaha_mirror.config.rules import Follow, Hold, Pin, Rule
from omaha_mirror.omaha import Version
from omaha_mirror.reasons import Reason


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
    lacking = _lacking(known.release, known, needed, own)
    if lacking:
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
