"""The Omaha server upstream: with which id each question goes up, and which reports."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from omaha_mirror.aio.clock import Clock
from omaha_mirror.aio.workers import STATE
from omaha_mirror.catalog import Reason
from omaha_mirror.catalog.follow_events import FollowEvent
from omaha_mirror.catalog.followed import ASK_NOTHING, CHANNELS, FollowPlan, Inquiry
from omaha_mirror.config import Config
from omaha_mirror.config.rules import Rule, track_upstream
from omaha_mirror.omaha import AppRequest, Response
from omaha_mirror.policy.dry_run import UpstreamAnswer, ask_upstream
from omaha_mirror.policy.relay import CheckRelay
from omaha_mirror.policy.relay_store import LastOffers
from omaha_mirror.policy.updatecheck import Upstream, as_upstream
from omaha_mirror.upstream.allowed import AllowList
from omaha_mirror.upstream.fetcher import Fetcher
from omaha_mirror.upstream.identity import lasting_id, pseudonym, site_secret
from omaha_mirror.upstream.omaha_server import OmahaServer, question
from omaha_mirror.upstream.outbox import Outbox, OutboxStats

TRACKS = (*CHANNELS, "edge", *(f"lts-{year}" for year in range(2021, 2041)))
"""Flatcar's tracks: these names are not made up."""


class OmahaUpstream:
    """Questions and reports to the server; without one, nothing is sent.

    Args:
        config: has the URL of the server.
        fetcher: sends the requests.
        allowed: the origins that packages may come from.
        hook: called with each event of following tracks.
        failed: called for each relayed check without a valid answer.
        clock: tells the time.
        rng: for jitter.

    Attributes:
        upstream: for relayed checks and reports; None before `open`, and without a server.
    """

    def __init__(
        self,
        config: Config,
        fetcher: Fetcher,
        allowed: AllowList,
        hook: Callable[[FollowEvent], None],
        failed: Callable[[Reason], None],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        url = config.upstream.omaha_url
        self.upstream: Upstream | None = None
        self._server = OmahaServer(fetcher, url) if url is not None else None
        self._allowed = allowed
        self._hook = hook
        self._failed = failed
        self._clock = clock
        self._rng = rng
        self._state = config.state_directory
        self._secret = b""
        self._one_at_a_time = asyncio.Lock()

    async def open(self) -> None:
        """Read the files, and start to send the stored reports."""
        if self._server is None:
            return
        self._secret = await STATE.call(site_secret, self._state)
        relay = CheckRelay(
            self._server.ask,
            LastOffers(self._state / "relay.json"),
            self._allowed.check,
            failed=self._failed,
            clock=self._clock,
        )
        outbox = Outbox(self._state / "outbox", self._server.deliver, rng=self._rng)
        await relay.offers.start()
        await outbox.start()
        self.upstream = Upstream(relay, outbox, self._secret)

    async def close(self) -> None:
        """Stop sending, and store what was not sent."""
        if self.upstream is not None:
            await self.upstream.relay.offers.close()
            await self.upstream.outbox.close()

    def following(self, config: Config) -> FollowPlan:
        """The plan of a config for following tracks."""
        if self._server is None:
            return ASK_NOTHING
        return replace(
            plan_of(config),
            ask=partial(self._ask, self._server),
            allowed=self._allowed.check,
            hook=self._hook,
        )

    def queues(self) -> Mapping[str, OutboxStats]:
        """The outbox, by its name in the metrics."""
        return {} if self.upstream is None else {"events_upstream": self.upstream.outbox.stats}

    async def upstream_answer(self, app: AppRequest, rule: Rule) -> UpstreamAnswer:
        """Upstream's answer to a machine like this one, whose track has this rule.

        The question has an id of its own, not a machine's and not the one for following tracks, so that its grants delay
        neither. One question at a time, as all share that id.
        """
        server = self._server
        if server is None:
            return UpstreamAnswer(
                trouble="upstream.omaha_url is null, so there is no server to ask"
            )
        app = as_upstream(app, rule)
        channel = app.app_id, app.board, app.track
        name = pseudonym(self._secret, f"opinion {channel}")
        async with self._one_at_a_time:
            return await ask_upstream(
                lambda version: server.ask(question(name, *channel, version)),
                app,
                self._allowed.check,
            )

    async def _ask(self, server: OmahaServer, inquiry: Inquiry) -> Response:
        channel = inquiry.app_id, inquiry.board, inquiry.track
        asked = question(lasting_id(self._secret, *channel), *channel, inquiry.version)
        return await server.ask(asked)


def plan_of(config: Config) -> FollowPlan:
    """The plan of a config, without the port to upstream."""
    if config.upstream.omaha_url is None:
        return ASK_NOTHING
    return FollowPlan(
        app_ids=config.upstream.app_ids,
        tracks=(*_named(config), *TRACKS),
        poll_interval=config.upstream.poll_interval,
    )


def _named(config: Config) -> Iterator[str]:
    """The names upstream of the config's tracks."""
    for name, track in (*config.tracks.items(), ("", config.default_track)):
        if named := track_upstream(name, track):
            yield named
