"""Relay: passes checks on to upstream with the machines' own ids.

A valid answer is policy and takes effect at once. Without one, the machine gets its last offer, unless upstream withdrew
it. During an outage `breaker` spares machines the wait. Each application of a request goes up alone, one at a time for
each machine and each request; equal requests are collapsed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

import structlog

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.tasks import DEFECT
from omaha_mirror.catalog.model import Release
from omaha_mirror.catalog.upstream_answer import (
    Unusable,
    UpstreamPolicy,
    UpstreamReading,
    read_off_loop,
    read_upstream,
)
from omaha_mirror.omaha import AppRequest, Request, Response
from omaha_mirror.policy.breaker import Breaker, Resting
from omaha_mirror.policy.concurrency import OneByOne, SharedRequests, Slots
from omaha_mirror.policy.relay_store import LastOffers
from omaha_mirror.reasons import Reason
from omaha_mirror.upstream.errors import UpstreamError
from omaha_mirror.upstream.outbox import is_refusal

WAIT = 20.0
LOG = structlog.get_logger(__name__)

_NOTHING = {
    UpstreamPolicy.NO_UPDATE: Reason.NO_UPDATE_UPSTREAM,
    UpstreamPolicy.WITHDRAWN: Reason.WITHDRAWN,
    UpstreamPolicy.BUSY: Reason.BUSY,
}


@dataclass(frozen=True, slots=True)
class RelayedAnswer:
    """The answer to a relayed check.

    Attributes:
        release_id: of the release that upstream offers, or last offered; None for no offer.
        release: of this answer; None for a stored one.
        reason: why there is no offer; OFFERED if there is one.
        detail: the same for people; of an outage also beside an offer.
        delivered: whether upstream surely got the request; if not, the caller must deliver its events and ping.
        delta: whether the release is a delta, which fits only machines of the request's version.
    """

    release_id: str | None
    release: Release | None
    reason: Reason
    detail: str
    delivered: bool
    delta: bool = False

    @property
    def name(self) -> str:
        """The release's name in a `ReleaseKey`; empty if that is its version."""
        return self.release_id if self.delta and self.release_id is not None else ""

    @property
    def version(self) -> str | None:
        """The version of the release; None for no offer."""
        return None if self.release_id is None else self.release_id.rpartition("-")[0]


class CheckRelay:
    """Passes checks on, and stores the offers. The caller starts and closes `offers`.

    Args:
        ask: posts a request to the Omaha server; raises UpstreamError.
        offers: the last offer of each machine.
        allowed: raises Forbidden for a URL that packages may not come from.
        failed: called for each check without an answer (UNREACHABLE), or with an invalid one (REFUSED).
        clock: tells the time.
    """

    def __init__(
        self,
        ask: Callable[[Request], Awaitable[Response]],
        offers: LastOffers,
        allowed: Callable[[str], object],
        *,
        failed: Callable[[Reason], None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        self._ask = ask
        self.offers = offers
        self._allowed = allowed
        self._failed = failed
        self._clock = clock or Clock()
        self._breaker = Breaker(self._clock.boottime)
        self._slots = Slots()
        self._one_by_one = OneByOne()
        self._shared_requests = SharedRequests[Response]()
        self._refusal = ""

    async def check(
        self, app: AppRequest, request: Request, wait: float = WAIT, address: str = ""
    ) -> RelayedAnswer:
        """Pass one application of a request on, events and ping included.

        If this is cancelled, it is not known whether upstream got the events.

        Args:
            app: the application.
            request: the one that contains it.
            wait: seconds until the request is cancelled, its wait for other checks included.
            address: of the machine.
        """
        try:
            response = await self._shared(app, request, wait, address)
        except UpstreamError as error:
            reason = Reason.REFUSED if is_refusal(error) else Reason.UNREACHABLE
            return self._remembered(app, reason, str(error))
        except TimeoutError:
            detail = f"upstream did not answer within {wait:g} s"
            return self._remembered(app, Reason.UNREACHABLE, detail)
        except Resting as rest:
            return self._remembered(app, Reason.UNREACHABLE, str(rest))
        except Exception:
            LOG.exception("a defect ended a relayed check")
            return self._remembered(app, Reason.UNREACHABLE, DEFECT)
        try:
            read = partial(
                read_upstream,
                app_id=app.app_id,
                board=app.board,
                allowed=self._allowed,
                now=self._clock.stamp(),
                deltas=True,
            )
            reading = await read_off_loop(response, read)
        except Unusable as error:
            return self._remembered(app, Reason.REFUSED, str(error), delivered=True)
        self._refusal = ""
        return self._policy(app, reading)

    async def _shared(
        self, app: AppRequest, request: Request, wait: float, address: str
    ) -> Response:
        """The answer to a request; simultaneous equal ones are collapsed."""
        alone = replace(request, apps=(app,))
        try:
            return await self._shared_requests.ask(
                (alone, address), lambda: self._asked(alone, id(request), wait, address)
            )
        except (UpstreamError, TimeoutError, Resting) as error:
            error.__traceback__ = None  # its frames keep the task that keeps it
            raise

    async def _asked(self, request: Request, whole: int, wait: float, address: str) -> Response:
        """Send a request after the earlier ones of its check, its machine and its address."""
        name = request.apps[0].machineid
        # An equal machine id at another address may be a forgery.
        machine = f"{address} {name}" if name else ""
        deadline = asyncio.get_running_loop().time() + wait
        async with AsyncExitStack() as turns:
            async with asyncio.timeout_at(deadline):
                await turns.enter_async_context(self._one_by_one.alone(whole))
                if machine:
                    await turns.enter_async_context(self._one_by_one.alone(machine))
                await turns.enter_async_context(self._slots.hold(address))
            with self._breaker.attempt(machine, address):
                async with asyncio.timeout_at(deadline):
                    return await self._ask(request)

    def _policy(self, app: AppRequest, reading: UpstreamReading) -> RelayedAnswer:
        release = reading.releases[0].release if reading.policy is UpstreamPolicy.OFFERS else None
        self.offers.remember(app, release)
        if release is None:
            return RelayedAnswer(
                None, None, _NOTHING[reading.policy], reading.detail, delivered=True
            )
        return RelayedAnswer(
            release.id,
            release,
            Reason.OFFERED,
            reading.detail,
            delivered=True,
            delta=release.is_delta,
        )

    def _remembered(
        self, app: AppRequest, reason: Reason, detail: str, *, delivered: bool = False
    ) -> RelayedAnswer:
        self._failed(reason)
        if reason is Reason.REFUSED:
            if detail != self._refusal:
                LOG.warning("upstream's answer to a machine cannot be used", why=detail)
            self._refusal = detail
        if (last := self.offers.last(app)) is None:
            return RelayedAnswer(None, None, reason, detail, delivered)
        release, delta = last
        return RelayedAnswer(release, None, Reason.OFFERED, detail, delivered, delta=delta)
