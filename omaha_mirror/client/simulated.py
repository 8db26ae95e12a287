"""A fleet of simulated machines that check at times spread over a period, and install the updates that they are offered.

A machine checks at its own time, whether or not the server has answered the machines before it: a slow server gets as
many requests as a quick one, and the latency of an answer counts from the time at which the request was due. Only
machines between their first and last request are in memory, and they share a few connections.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from omaha_mirror.client.connections import ConnectionFailed, connections, exchange, post, read
from omaha_mirror.client.download import PAUSE, TRIES
from omaha_mirror.omaha import (
    BadResponse,
    Client,
    ErrorCode,
    Machine,
    NoUpdate,
    Offer,
    Request,
    serialise_request,
)
from omaha_mirror.text import printable

CONNECTIONS = 32
DOWNLOADS = 8
"""At once."""
STEP = 20.0
"""Mean seconds of one step of an update; at most a tenth of the period over which the machines start."""
STEPS = 16
"""Updates that one machine installs one after the other at most: a track may have floors."""
GIVE_UP = 10
"""Failed requests, none answered before them, after which the fleet gives up."""
KINDS = 50
"""Different errors that are counted each; all others together."""
BUCKETS = 50
"""Buckets of latencies for each factor of e: each is 2 % above the one before."""
BAD_DOWNLOADS = (ErrorCode.DOWNLOAD_TRANSFER_ERROR, ErrorCode.PAYLOAD_HASH_MISMATCH_ERROR)
FAULTS = (*BAD_DOWNLOADS, ErrorCode.POSTINSTALL_RUNNER_ERROR, ErrorCode.ROLLBACK)
"""The simulated failures: in the download, in the postinstall step, and at the reboot."""

Mix = Mapping[str, float]
"""Values with their weights."""
Downloads = Literal["none", "first", "all"]


class NoAnswer(Exception):
    """No request got an answer; the message says why."""


class State(StrEnum):
    """The state of a simulated machine."""

    UNDER_WAY = "under way"
    NO_UPDATE = "no update"
    UPDATED = "updated"
    FAILED = "failed"
    ROLLED_BACK = "rolled back"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to simulate.

    Attributes:
        server: the SERVER of update.conf.
        machines: their number.
        over: seconds over which their first checks are spread.
        versions, oems: of the machines, with weights; no OEM is "".
        errors: the share of updates that fail, 0 to 1.
        download: whether payloads are fetched: not at all, each once, or by every machine.
    """

    server: str
    machines: int
    over: float
    track: str
    versions: Mix
    oems: Mix
    errors: float = 0.0
    download: Downloads = "none"

    def machine(self, number: int) -> Machine:
        """The machine of that number, the same in every simulation."""
        rng = random.Random(number)
        return Machine(
            version=_pick(rng, self.versions),
            machineid=f"{rng.getrandbits(128):032x}",
            bootid=_bootid(rng),
            track=self.track,
            oem=_pick(rng, self.oems),
            machinealias=f"simulated-{number}",
        )


class Latencies:
    """Seconds that answers took, counted in buckets.

    Attributes:
        longest: of all.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count an answer."""
        self.longest = max(self.longest, seconds)
        self._counts[round(math.log(max(seconds, 1e-6)) * BUCKETS)] += 1

    @property
    def count(self) -> int:
        """The number of answers."""
        return self._counts.total()

    def at(self, share: float) -> float:
        """The quantile of a share, 0 to 1, to a percent; 0 without any answer."""
        left = share * self.count
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return min(math.exp(step / BUCKETS), self.longest)
        return 0.0


@dataclass(slots=True)
class Tally:
    """The counts so far.

    Attributes:
        requests: sent: checks, events and pings.
        offers: received.
        errors: the words of each error, with its number.
        latencies: of the answers.
        behind: seconds by which the latest machine was late: this computer was too slow.
        downloads: payloads that were fetched whole and have their digest.
        bytes: received for payloads, those of failed downloads included.
    """

    requests: int = 0
    offers: int = 0
    downloads: int = 0
    bytes: int = 0
    behind: float = 0.0
    states: Counter[State] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies: Latencies = field(default_factory=Latencies)

    @property
    def machines(self) -> int:
        """The number of machines that have started."""
        return self.states.total()

    def failed(self, why: str) -> None:
        """Count an error."""
        self.errors[why if why in self.errors or len(self.errors) < KINDS else "other errors"] += 1


class Fleet:
    """The machines of a plan.

    Attributes:
        tally: what has happened, also while they run and after they were stopped.
    """

    def __init__(self, plan: Plan) -> None:
        self.tally = Tally()
        self._plan = plan
        self._rng = random.Random(0)
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._downloads = asyncio.Semaphore(DOWNLOADS)
        self._fetched: set[str] = set()

    async def run(self) -> None:
        """Run all machines. Raises NoAnswer."""
        try:
            async with connections() as self._session, asyncio.TaskGroup() as running:
                await self._start_machines(running)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _start_machines(self, running: asyncio.TaskGroup) -> None:
        clock, plan = asyncio.get_running_loop().time, self._plan
        began = clock()
        for number in range(plan.machines):
            due = began + plan.over * (number + self._rng.random()) / plan.machines
            await asyncio.sleep(due - clock())
            self.tally.behind = max(self.tally.behind, clock() - due)
            running.create_task(self._run_machine(Client(plan.machine(number))))

    async def _run_machine(self, client: Client) -> None:
        states = self.tally.states
        states[State.UNDER_WAY] += 1
        state = await self._check_and_update(client)
        states[State.UNDER_WAY] -= 1
        states[state] += 1

    async def _check_and_update(self, client: Client) -> State:
        """Check and update until there is no update; gives the last state."""
        state = State.NO_UPDATE
        for _ in range(STEPS):
            answer = await self._check(client)
            if answer is None:
                return State.UNANSWERED
            if isinstance(answer, NoUpdate):
                return state
            state = await self._update(client, answer)
            if state is not State.UPDATED:
                return state
        return state

    async def _check(self, client: Client) -> Offer | NoUpdate | None:
        """The answer to a check; None where the machine cannot use it, which it reports."""
        status, body = await self._post(client.check())
        try:
            answer = client.receive(status, body)
        except BadResponse as error:
            if status == 200:
                self.tally.failed(printable(error.message))
            if status:
                await self._post(client.failed(error.errorcode or ErrorCode.OMAHA_RESPONSE_INVALID))
            return None
        self.tally.offers += isinstance(answer, Offer)  # a bool counts as 0 or 1
        return answer

    async def _update(self, client: Client, offer: Offer) -> State:
        """Install an update, with the events of update_engine in its order, and reboot."""
        fault = self._rng.choice(FAULTS) if self._rng.random() < self._plan.errors else None
        await self._post(client.download_started())
        if not await self._download(offer):
            fault = ErrorCode.DOWNLOAD_TRANSFER_ERROR
        await self._pause()
        if fault in BAD_DOWNLOADS:
            return await self._fail(client, fault)
        await self._post(client.download_finished())
        await self._pause()
        if fault is ErrorCode.POSTINSTALL_RUNNER_ERROR:
            return await self._fail(client, fault)
        await self._post(client.update_applied())
        await self._pause()
        await self._post(client.ping())
        await self._pause()
        if fault is ErrorCode.ROLLBACK:
            client.rebooted(client.machine.version, _bootid(self._rng))
            await self._check(client)
            return State.ROLLED_BACK
        client.rebooted(offer.version, _bootid(self._rng))
        return State.UPDATED

    async def _fail(self, client: Client, fault: ErrorCode) -> State:
        await self._post(client.failed(fault))
        return State.FAILED

    async def _pause(self) -> None:
        await asyncio.sleep(self._rng.uniform(0.5, 1.5) * min(STEP, self._plan.over / 10))

    async def _post(self, request: Request) -> tuple[int, bytes]:
        """The status and body of the answer; 0 and no bytes without an answer."""
        clock, tally = asyncio.get_running_loop().time, self.tally
        wanted = clock()
        body = serialise_request(request)
        async with self._turns:
            tally.requests += 1
            try:
                status, answer = await post(self._session, self._plan.server, body)
            except ConnectionFailed as error:
                tally.failed(str(error))
                if tally.errors.total() >= GIVE_UP and not tally.latencies.count:
                    raise NoAnswer(str(error)) from None
                return 0, b""
        tally.latencies.add(clock() - wanted)
        if status != 200:
            tally.failed(f"HTTP {status}")
        return status, answer

    async def _download(self, offer: Offer) -> bool:
        """Fetch a payload if the plan includes it; gives False if that failed."""
        url = offer.urls[0]
        wanted = {"none": False, "first": url not in self._fetched, "all": True}
        if not wanted[self._plan.download]:
            return True
        self._fetched.add(url)
        async with self._downloads:
            right = await self._fetch(offer, url)
        if right:
            self.tally.downloads += 1
        else:
            self.tally.failed("a download failed")
        return right

    async def _fetch(self, offer: Offer, url: str) -> bool:
        """Fetch a payload without keeping it, resumed after a cut as by update_engine; gives whether its digest is right."""
        digest, size = hashlib.sha256(), 0
        for _ in range(TRIES + 1):
            headers = {"Range": f"bytes={size}-"} if size else {}
            with suppress(ConnectionFailed):
                async with exchange(self._session, "GET", url, headers=headers) as response:
                    if response.status != (206 if size else 200):
                        return False
                    while size <= offer.size and (chunk := await read(response)):
                        digest.update(chunk)
                        size += len(chunk)
                        self.tally.bytes += len(chunk)
            if size >= offer.size:
                break
            await asyncio.sleep(PAUSE)
        return size == offer.size and digest.digest() == offer.sha256.raw


def _pick(rng: random.Random, mix: Mix) -> str:
    return rng.choices(list(mix), list(mix.values()))[0]


def _bootid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
