"""Well-behaved machines, as a process: each checks, downloads what it is offered, and reports.

`python -m benchmarks.machines PORT COUNT SECONDS [OEM]` spreads so many over so many seconds, each with an address of
its own on loopback, and prints what became of them.
"""

import asyncio
import hashlib
import json
import random
import signal
import sys
import time
from collections import Counter
from statistics import quantiles
from typing import Any
from urllib.parse import urlsplit

from omaha_mirror.config import Address
from omaha_mirror.omaha import Client, Machine, Offer, serialise_request
from tests.support.talk import Answer, dial, request

HOST = "127.0.0.1"
OLD = "3000.0.0"
TRIES = 20
"""As many as update_engine makes for a package."""
PAUSE = 1.0


class Fleet:
    """Machines and what became of them."""

    def __init__(self, port: int, oem: str) -> None:
        self.told: Counter[str] = Counter()
        self.waited: list[float] = []
        self._address = Address(HOST, port)
        self._oem = oem

    async def run(self, count: int, seconds: float) -> None:
        """Let so many come within so many seconds."""
        rng = random.Random(2)
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(self._machine(number, rng.uniform(0, seconds)))

    async def _machine(self, number: int, start: float) -> None:
        await asyncio.sleep(start)
        source = f"127.1.{number // 250}.{1 + number % 250}"
        machine = Machine(version=OLD, machineid=f"{number:032x}", oem=self._oem)
        client = Client(machine)
        answer = await self._ask(source, serialise_request(client.check()), timed=True)
        offer = client.receive(answer.status, answer.body)
        if not isinstance(offer, Offer):
            self.told["was offered nothing"] += 1
            return
        self.told["was offered an update"] += 1
        await self._ask(source, serialise_request(client.download_started()))
        for package in offer.packages:
            body = await self._download(source, urlsplit(offer.url_of(package)).path)
            sha1 = hashlib.sha1(body, usedforsecurity=False).digest()
            if package.hash is None or sha1 != package.hash.raw:
                self.told["got wrong bytes"] += 1
                return
        self.told["has its packages"] += 1
        await self._ask(source, serialise_request(client.update_applied()))
        self.told["has reported"] += 1

    async def _ask(self, source: str, body: bytes, *, timed: bool = False) -> Answer:
        began = time.monotonic()
        answer = await self._talk(source, request("POST", "/v1/update/", {}, body))
        if timed:
            self.waited.append(time.monotonic() - began)
        return answer

    async def _download(self, source: str, path: str) -> bytes:
        return (await self._talk(source, request("GET", path))).body

    async def _talk(self, source: str, sent: bytes) -> Answer:
        """One request on a connection of its own, again where that is closed without a whole answer."""
        for _ in range(TRIES):
            try:
                async with dial(self._address, source=source) as talk:
                    await talk.send(sent)
                    answer = await talk.answer()
                    if answer.status == 200 and len(answer.body) == answer.length:
                        return answer
                    self.told[f"was answered with {answer.status} or cut"] += 1
            except (OSError, AssertionError):
                self.told["was not answered"] += 1
            await asyncio.sleep(PAUSE)
        raise RuntimeError("the mirror does not answer")


def main(port: int, count: int, seconds: float, oem: str = "") -> None:
    signal.alarm(int(seconds) + 120)
    fleet = Fleet(port, oem)
    asyncio.run(fleet.run(count, seconds))
    cuts = quantiles(fleet.waited, n=100)
    figures: dict[str, Any] = {"p50": cuts[49], "p99": cuts[98], "longest": max(fleet.waited)}
    print(json.dumps({"told": fleet.told, "check": figures}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:5])
