"""Decides checks: brings together rules, catalog, relay and `decide`, and forwards the machines' reports upstream.

A check is answered from the catalog. It waits for upstream only before the first result, at most `FIRST_ANSWER` seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from omaha_mirror.aio.clock import Clock
from omaha_mirror.catalog import BOARDS, Catalog, LookupResult, Reason, Release, Step
from omaha_mirror.catalog.followed import NO_UPSTREAM
from omaha_mirror.config.rules import Follow, Hold, Pin, Relay, Rule, track_upstream
from omaha_mirror.omaha import AppRequest, Request, serialise_request
from omaha_mirror.policy.decide import Decision, decide, refuse
from omaha_mirror.policy.relay import CheckRelay as Relaying
from omaha_mirror.policy.relay import RelayedAnswer
from omaha_mirror.upstream.identity import anonymous
from omaha_mirror.upstream.outbox import Outbox

FIRST_ANSWER = 5.0
"""Seconds that a check may wait for a look-up; after that the answer is `noupdate`, and the look-up goes on."""

ForwardEvents = Literal["none", "anonymous", "all"]


@dataclass(frozen=True, slots=True)
class Upstream:
    """The connection to the Omaha server upstream.

    Attributes:
        relay: passes checks on with the machines' own ids.
        outbox: sends the machines' reports.
        secret: for pseudonyms.
    """

    relay: Relaying
    outbox: Outbox
    secret: bytes


class CheckDecisions:
    """Decides checks.

    Args:
        catalog: of releases.
        rule: gives the rule of a track.
        judged: adds to a step what the cache knows of its packages.
        app_ids: the applications that this mirror serves.
        forward: gives the config's `forward_events`.
        clock: tells the time.

    Attributes:
        upstream: None without an Omaha server upstream.
    """

    def __init__(
        self,
        catalog: Catalog,
        rule: Callable[[str], Rule],
        judged: Callable[[Step], Step],
        app_ids: Collection[str],
        forward: Callable[[], ForwardEvents],
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self.upstream: Upstream | None = None
        self._rule = rule
        self._judged = judged
        self._app_ids = app_ids
        self._forward = forward
        self._clock = clock

    async def decide(self, request: Request, app: AppRequest, client: str = "") -> Decision:
        """The decision for a machine at the address `client`; may wait, see above."""
        rule = self._rule(app.track)
        if (refused := refuse(app, rule, self._app_ids)) is not None:
            if isinstance(rule, Relay) and refused.reason is Reason.VERSION_UNREADABLE:
                self._send(_reports(request, as_upstream(app, rule)))
            return replace(refused, is_relayed=isinstance(rule, Relay))
        if isinstance(rule, Relay):
            return replace(await self._relayed(request, app, client, rule), is_relayed=True)
        if (decision := self._at_once(app, client, rule)) is not None:
            return decision
        until = time.monotonic() + FIRST_ANSWER
        if isinstance(rule, Follow) and self.upstream is not None:
            track = track_upstream(app.track, rule)
            await self._catalog.follow(app.app_id, app.board, track, FIRST_ANSWER, client)
        if isinstance(rule, Pin) and self.upstream is not None:
            await self._catalog.ask_about(app.app_id, app.board, rule.version, app.track)
        return await self._looked_up(app, client, rule, until, partial(self._known, app, rule))

    def at_once(self, app: AppRequest, client: str = "") -> Decision | None:
        """The decision for a machine at the address `client`, if it waits for nothing."""
        rule = self._rule(app.track)
        if isinstance(rule, Relay):
            return None
        return refuse(app, rule, self._app_ids) or self._at_once(app, client, rule)

    def _at_once(self, app: AppRequest, client: str, rule: Rule) -> Decision | None:
        catalog, app_id, board = self._catalog, app.app_id, app.board
        if self.upstream is not None:
            if isinstance(rule, Follow):
                track = track_upstream(app.track, rule)
                if not catalog.has_followed(app_id, board, track, client):
                    return None
            elif isinstance(rule, Pin) and not catalog.has_asked_about(app_id, board, rule.version):
                return None
        decision = self._known(app, rule)
        if decision.reason is Reason.WARMING:
            return None
        if decision.version is not None and not catalog.use(
            app_id, board, decision.version, rule, app.oem, client
        ):
            return None
        return decision

    def _known(self, app: AppRequest, rule: Rule) -> Decision:
        """The decision by what is known of where a track leads; it counts as a use of its target."""
        steps = self._catalog.steps(app.app_id, app.board, app.track, rule)
        decision = self._decide(app, rule, steps)
        if steps and decision.version != steps[-1].version:  # the other one is looked up
            self._catalog.known(app.app_id, app.board, steps[-1].version)
        return decision

    def dry_run(self, app: AppRequest) -> Decision | None:
        """The decision by what is known now; None for a relayed machine, which upstream itself answers.

        Asks upstream nothing, and records no use.
        """
        rule = self._rule(app.track)
        if isinstance(rule, Relay):
            return refuse(app, rule, self._app_ids)
        steps = self._catalog.steps(app.app_id, app.board, app.track, rule)
        return self._decide(app, rule, steps)

    def _decide(
        self,
        app: AppRequest,
        rule: Rule,
        steps: tuple[Step, ...],
        nothing: tuple[Reason, str] | None = None,
    ) -> Decision:
        """The decision by these steps; `nothing` is why there are none, where it is not for the catalog to say."""
        if not steps and nothing is None:
            track = track_upstream(app.track, rule)
            nothing = self._catalog.nothing(app.app_id, app.board, track)
        return decide(
            app,
            rule,
            tuple(map(self._judged, steps)),
            now=self._clock.at_least(),
            app_ids=self._app_ids,
            nothing=nothing or (Reason.WARMING, ""),
        )

    async def _looked_up(
        self,
        app: AppRequest,
        client: str,
        rule: Rule,
        until: float,
        decide: Callable[[], Decision],
        relayed: RelayedAnswer | None = None,
    ) -> Decision:
        """Decide, and start the look-up of the decision's version, which upstream may have named to this machine alone.

        If no decision is possible yet, or upstream named packages that were not looked up, wait until `until`, in the
        loop's seconds, and decide again.
        """
        decision = decide()
        if decision.version is None:
            return decision
        named = relayed.release if relayed is not None else None
        waits = decision.reason is Reason.WARMING or _lacks(decision.release, named)
        wait = until - time.monotonic() if waits else 0.0
        name = (relayed.name if relayed is not None else "") or decision.version
        await self._catalog.look_up(app.app_id, app.board, name, rule, app.oem, wait, client)
        return decide() if waits else decision

    # Relay

    async def _relayed(
        self, request: Request, app: AppRequest, client: str, rule: Relay
    ) -> Decision:
        if self.upstream is None:
            return Decision(Reason.NO_UPDATE_UPSTREAM, detail=NO_UPSTREAM)
        named = as_upstream(app, rule)
        try:
            relayed = await self.upstream.relay.check(named, request, address=client)
        except asyncio.CancelledError:
            self._send(_reports(request, named))
            raise
        if not relayed.delivered:
            self._send(_reports(request, named))
        if relayed.release is not None:
            self._catalog.record_upstream(relayed.release)

        def decide() -> Decision:
            nothing = relayed.reason, relayed.detail
            return self._decide(app, rule, self._step(app, relayed), nothing)

        until = time.monotonic() + FIRST_ANSWER
        return await self._looked_up(app, client, rule, until, decide, relayed)

    def _step(self, app: AppRequest, relayed: RelayedAnswer) -> tuple[Step, ...]:
        """The offered release as the only step, with the attributes of this machine's answer."""
        if relayed.version is None:
            return ()
        step = self._catalog.step(app.app_id, app.board, relayed.version, relayed.name)
        known, named = step.known, relayed.release
        if named is None or known.release is None:
            return (step,)
        if known.release.payload.sha256 != named.payload.sha256:
            # Other machines were offered another payload, which may not fit this one.
            return (replace(step, known=LookupResult()),)
        if known.release.id == named.id:
            step = replace(step, known=replace(known, release=named))
        return (step,)

    # Reports

    def forward_reports(
        self, request: Request, app: AppRequest, decision: Decision | None = None
    ) -> None:
        """Forward a machine's reports upstream, as the rule and `forward_events` say. Never waits.

        Args:
            request: the machine's.
            app: one of its apps.
            decision: about its check. Those of a relayed one went with it, whatever the rule of its track is by now.
        """
        if decision is not None and decision.is_relayed:
            return
        # update_engine adds an event with an empty previous version to every check: it says nothing new.
        news = tuple([event for event in app.events if event.previousversion != ""])
        if self.upstream is None or (app.update_check is not None and not news):
            return
        rule = self._rule(app.track)
        app = as_upstream(app, rule)
        ours = app.app_id in self._app_ids and app.board in BOARDS
        if not ours or isinstance(rule, Hold):
            return
        if isinstance(rule, Relay) and app.update_check is None:
            self._send(replace(request, apps=(app,)))
            return
        mode = self._forward()
        if not news or mode == "none":
            return
        report = replace(app, update_check=None, events=news)
        if mode == "anonymous":
            self._send(anonymous(request, report, self.upstream.secret))
        else:
            self._send(replace(request, apps=(report,)))

    def _send(self, request: Request) -> None:
        if self.upstream is not None and (request.apps[0].events or request.apps[0].ping):
            self.upstream.outbox.put(serialise_request(request))


def _lacks(offered: Release | None, named: Release | None) -> bool:
    """Whether an offer has not all packages that upstream named for it."""
    if offered is None or named is None:
        return False
    return not named.by_name.keys() <= offered.by_name.keys()


def as_upstream(app: AppRequest, rule: Rule) -> AppRequest:
    """A machine's request with the track's name upstream."""
    track = track_upstream(app.track, rule)
    return app if track == app.track else replace(app, track=track)


def _reports(request: Request, app: AppRequest) -> Request:
    """The events and the ping of a check, without the updatecheck."""
    return replace(request, apps=(replace(app, update_check=None),))
