"""The answers of the mirror and of upstream to a request, without an effect on the machine.

Upstream counts the updates that it grants to a machine id, so it is asked with an id of the mirror's own, and walked
until no grant is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from omaha_mirror.catalog import Reason
from omaha_mirror.catalog.upstream_answer import (
    Unusable,
    UpstreamPolicy,
    read_off_loop,
    read_upstream,
)
from omaha_mirror.catalog.walk import Walk
from omaha_mirror.config.rules import Follow, Hold, Pin, Relay, Rule
from omaha_mirror.omaha import AppRequest, Response
from omaha_mirror.policy.decide import Decision
from omaha_mirror.reasons import Effect
from omaha_mirror.upstream.errors import UpstreamError

WAIT = 20.0
"""Seconds that the walk may take."""


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """Upstream's answer to a machine.

    Attributes:
        offered: the offered version; None for no offer.
        leads_on: the versions that it would offer after that, oldest first.
        detail: upstream's own words if it offers nothing.
        trouble: why there is no answer; empty if there is one.
    """

    offered: str | None = None
    leads_on: tuple[str, ...] = ()
    detail: str = ""
    trouble: str = ""


async def ask_upstream(
    ask: Callable[[str], Awaitable[Response]],
    app: AppRequest,
    allowed: Callable[[str], object],
) -> UpstreamAnswer:
    """Walk upstream from a machine's version on.

    Args:
        ask: asks about the machine's track with a version; raises UpstreamError.
        app: the machine's request; its version is readable.
        allowed: raises Forbidden for a URL that packages may not come from.
    """
    walk = Walk(known=app.version)
    read = partial(read_upstream, app_id=app.app_id, board=app.board, allowed=allowed, now=0.0)
    try:
        async with asyncio.timeout(WAIT):
            go_on = True
            while go_on:
                response = await ask(walk.asks)
                go_on = walk.take(await read_off_loop(response, read))
    except TimeoutError:
        return UpstreamAnswer(trouble=f"upstream did not answer within {WAIT:g} s")
    except (UpstreamError, Unusable) as error:
        return UpstreamAnswer(trouble=str(error))
    versions = tuple(offered.release.version for offered in walk.given)
    if versions:
        return UpstreamAnswer(versions[0], versions[1:])
    nothing = walk.policy is UpstreamPolicy.NO_UPDATE and not walk.detail
    return UpstreamAnswer(detail="upstream answered noupdate" if nothing else walk.detail)


def can_be_asked(rule: Rule, decision: Decision) -> bool:
    """Whether upstream's answer can be compared: the mirror decides itself, by releases of upstream."""
    return isinstance(rule, Follow | Pin) and Effect.UNASKED not in decision.reason.effect


def sentences(app: AppRequest, rule: Rule, decision: Decision | None) -> list[str]:
    """The request, the answer, the reason, and what would change it, as sentences.

    Args:
        app: the machine's request.
        rule: of its track.
        decision: None if upstream itself would answer.
    """
    asks = (
        f"It asks for an update as {app.version or 'no version'} for {app.board or 'no board'}"
        f" on track {app.track or 'none'}, which {in_words(rule)}."
    )
    if decision is None:
        return [
            asks,
            "Upstream itself would answer; asking it in the machine's name could take a grant, so it is not asked.",
        ]
    if decision.release is not None:
        answer = f"It would be offered {decision.release.version}."
    else:
        answer = f"Its answer would be `noupdate`: {decision.words}."
    advice = decision.reason.advice
    if decision.reason is Reason.WARMING:
        advice = "A real check makes the mirror look it up, and waits for that a moment."
    return [asks, answer, *([advice] if decision.release is None else [])]


def difference(decision: Decision, answer: UpstreamAnswer) -> str:
    """How the mirror's answer and upstream's differ, as a sentence."""
    if answer.trouble:
        return f"Upstream could not be asked: {answer.trouble}."
    ours = decision.release.version if decision.release is not None else None
    if answer.offered == ours:
        same = f"offers {ours} as well" if ours else f"offers nothing either: {answer.detail}"
        return f"Upstream {same}."
    theirs = f"offers {answer.offered}" if answer.offered else f"offers nothing: {answer.detail}"
    why = f"the track says {ours}" if ours else decision.words
    return f"Upstream {theirs}; the mirror differs, as {why}."


def in_words(rule: Rule) -> str:
    """A rule as a predicate: `is held`."""
    match rule:
        case Hold():
            return "is held"
        case Relay(upstream_track=track):
            return "is relayed to upstream" + (f", as {track}" if track else "")
        case Pin(version=version):
            return f"is pinned to {version}"
        case Follow(upstream_track=track):
            return f"follows upstream's {track}" if track else "follows upstream"
