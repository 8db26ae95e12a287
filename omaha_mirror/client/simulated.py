"""A fleet of made-up machines that check in over a while, and take the updates that they are offered.

A machine asks when its time has come, not when the server is done with those before: a slow server meets as many as a
quick one, and the latency of an answer counts from when the machine wanted to ask. Only machines in the middle of their
story are in memory, and they share a few connections.
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

from omaha_mirror.client.agent import ANSWER_LIMIT
from omaha_mirror.client.connections import SILENCE, ConnectionFailed, connections, exchange, read
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
"""Seconds that a step of an update takes, about; at most a tenth of the time in which the machines come."""
STEPS = 16
"""Updates that one machine takes, one after the other, where it is led over several versions."""
HOPELESS = 10
"""Requests without an answer, before any had one, after which nobody is there."""
KINDS = 50
"""Errors that are told apart."""
FINE = 50
"""Steps in which latencies are told apart, for each factor of e: each is 2 % above the one before."""
BAD_DOWNLOADS = (ErrorCode.DOWNLOAD_TRANSFER_ERROR, ErrorCode.PAYLOAD_HASH_MISMATCH_ERROR)
FAULTS = (*BAD_DOWNLOADS, ErrorCode.POSTINSTALL_RUNNER_ERROR, ErrorCode.ROLLBACK)
"""How updates fail: in the download, in the step after it, and at the reboot."""

Mix = Mapping[str, float]
"""Values with their weights."""
Downloads = Literal["none", "first", "all"]


class NobodyAnswers(Exception):
    """The server is not there; the message says why."""


class State(StrEnum):
    """What has become of a machine."""

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
        machines: how many there are.
        over: seconds in which they come, one after the other.
        versions, oems: that they have; no OEM is "".
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
        """One of them, the same in every simulation."""
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
    """Seconds that answers took, in little memory.

    Attributes:
        longest: of all.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one."""
        self.longest = max(self.longest, seconds)
        self._counts[round(math.log(max(seconds, 1e-6)) * FINE)] += 1

    @property
    def count(self) -> int:
        """How many there are."""
        return self._counts.total()

    def at(self, share: float) -> float:
        """What this share of them did not exceed, to a percent; 0 without any."""
        left = share * self.count
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return min(math.exp(step / FINE), self.longest)
        return 0.0


@dataclass(slots=True)
class Tally:
    """What has happened so far.

    Attributes:
        requests: that were sent: checks, events and pings.
        offers: that machines were made.
        errors: what went wrong with answers, in words, and how often.
        latencies: of the answers.
        behind: seconds by which the latest machine came later than it should have: this computer was too slow.
        downloads, bytes: payloads that were fetched and were right, and what came for all.
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
        """Those that have come."""
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
        """Return when the last machine's story is over. Raises NobodyAnswers."""
        try:
            async with connections() as self._session, asyncio.TaskGroup() as stories:
                await self._come(stories)
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _come(self, stories: asyncio.TaskGroup) -> None:
        clock, plan = asyncio.get_running_loop().time, self._plan
        began = clock()
        for number in range(plan.machines):
            due = began + plan.over * (number + self._rng.random()) / plan.machines
            await asyncio.sleep(due - clock())
            self.tally.behind = max(self.tally.behind, clock() - due)
            stories.create_task(self._live(Client(plan.machine(number))))

    async def _live(self, client: Client) -> None:
        states = self.tally.states
        states[State.UNDER_WAY] += 1
        state = await self._story(client)
        states[State.UNDER_WAY] -= 1
        states[state] += 1

    async def _story(self, client: Client) -> State:
        """Check, and update, until there is nothing more; what became of it."""
        state = State.NO_UPDATE
        for _ in range(STEPS):
            told = await self._check(client)
            if told is None:
                return State.UNANSWERED
            if isinstance(told, NoUpdate):
                return state
            state = await self._update(client, told)
            if state is not State.UPDATED:
                return state
        return state

    async def _check(self, client: Client) -> Offer | NoUpdate | None:
        """What a machine is told; None where it cannot use the answer, which it reports."""
        status, body = await self._post(client.check())
        try:
            told = client.receive(status, body)
        except BadResponse as error:
            if status == 200:
                self.tally.failed(printable(error.message))
            if status:
                await self._post(client.failed(error.errorcode or ErrorCode.OMAHA_RESPONSE_INVALID))
            return None
        self.tally.offers += isinstance(told, Offer)
        return told

    async def _update(self, client: Client, offer: Offer) -> State:
        """Take an update, with the events of update_engine in its order, and reboot."""
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
        """The answer's status and body; 0 and nothing where there is none."""
        clock, tally = asyncio.get_running_loop().time, self.tally
        wanted = clock()
        body = serialise_request(request)
        async with self._turns:
            tally.requests += 1
            try:
                async with asyncio.timeout(SILENCE):
                    status, answer = await self._exchange(body)
            except (ConnectionFailed, TimeoutError) as error:
                tally.failed(str(error) or f"nothing whole within {SILENCE:.0f} s")
                if tally.errors.total() >= HOPELESS and not tally.latencies.count:
                    raise NobodyAnswers(str(error)) from None
                return 0, b""
        tally.latencies.add(clock() - wanted)
        if status != 200:
            tally.failed(f"HTTP {status}")
        return status, answer

    async def _exchange(self, body: bytes) -> tuple[int, bytes]:
        """One request; its connection is used again when all of the answer was read. Raises ConnectionFailed."""
        headers = {"Content-Type": "text/xml"}
        answer = bytearray()
        async with exchange(
            self._session, "POST", self._plan.server, headers=headers, body=body
        ) as response:
            while chunk := await read(response):
                answer += chunk
                if len(answer) > ANSWER_LIMIT:
                    raise ConnectionFailed(f"an answer has more than {ANSWER_LIMIT} bytes")
            return response.status, bytes(answer)

    async def _download(self, offer: Offer) -> bool:
        """Fetch a payload, if this machine is to; whether the machine has what it needs."""
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
        """Fetch a payload and throw it away; a cut one is taken up again, as by update_engine. Whether it was right."""
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
