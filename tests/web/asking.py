"""Asking the admin listener of a mirror in this process."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from omaha_mirror.config import Address
from omaha_mirror.fleet.model import Item, tidy
from omaha_mirror.web.admin.app import AdminApp, admin_routes
from omaha_mirror.web.server import Listener
from tests.support.mirror import Mirror
from tests.support.talk import PATIENCE, Answer, ask

TOKEN = "0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Admin:
    """An admin listener, wherever it says it listens."""

    def __init__(self, address: Address) -> None:
        self.address = address

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = TOKEN, host: str = ""
    ) -> Answer:
        headers = {"Host": host or f"localhost:{self.address.port}"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        sent = b"" if body is None else json.dumps(body).encode()
        return await ask(self.address, method, path, headers, sent)

    async def json(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.ask(method, path, body)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)


class Api(Admin):
    """What an operator asks, and is told."""

    def __init__(self, address: Address, mirror: Mirror) -> None:
        super().__init__(address)
        self.mirror = mirror

    async def get(self, path: str) -> Any:
        return await self.json("GET", f"/api/v1/{path}")

    async def post(self, path: str, body: Any = None) -> Any:
        return await self.json("POST", f"/api/v1/{path}", body or {})

    async def refused(self, method: str, path: str, status: int, body: Any = None) -> str:
        """The words of a refusal, which are one line."""
        answer = await self.ask(method, f"/api/v1/{path}", body)
        assert answer.status == status, answer.body
        words = error(answer)
        assert words.isprintable()
        return words

    def record(self, *items: Item) -> None:
        """Have news of machines in the register."""
        for item in items:
            self.mirror.service.fleet_feed.recorder.put(tidy(item))

    async def when(self, path: str, holds: Callable[[Any], bool]) -> Any:
        """What a path tells, as soon as that is so. The register opens its database behind the start."""
        async with asyncio.timeout(PATIENCE):
            while True:
                answer = await self.ask("GET", f"/api/v1/{path}")
                assert answer.status in (200, 503), answer.body
                if answer.status == 200 and holds(told := json.loads(answer.body)):
                    return told
                await self.mirror.round_trips(1)

    async def machine(self, name: str) -> Any:
        """A machine's history, as soon as the mirror knows it."""
        await self.when(f"machines?search={name}", lambda told: told["total"] == 1)
        return await self.get(f"machines/{name}")


def error(answer: Answer) -> str:
    assert answer.headers["content-type"].startswith("application/json")
    text: str = json.loads(answer.body)["error"]
    return text


@asynccontextmanager
async def api_of(mirror: Mirror) -> AsyncIterator[Api]:
    """The admin listener before a mirror."""
    loopback = Address("127.0.0.1", 0)
    listener = Listener(AdminApp(admin_routes(mirror.service), TOKEN, [loopback]))
    [address] = await listener.start([loopback])
    try:
        yield Api(address, mirror)
    finally:
        await listener.stop()
