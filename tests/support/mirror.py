"""The whole mirror for tests: in this process, or as a process of its own."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import yaml
from aiohttp import web

from omaha_mirror import service
from omaha_mirror.aio.clock import Clock
from omaha_mirror.cache import events
from omaha_mirror.config import Address, Config
from omaha_mirror.observability.observers import Observer
from omaha_mirror.omaha import Response, parse_response
from omaha_mirror.service import Service
from omaha_mirror.web.http_connection import WholeRequest
from omaha_mirror.web.public import PublicApp
from omaha_mirror.web.public_settings import PublicSettings
from omaha_mirror.web.server import Listener
from tests.support.clock import SetClock
from tests.support.talk import PATIENCE, Answer, ask

DATA = Path(__file__).parent.parent / "data"
VERSION = "3815.2.1"
FOLDER = f"/amd64-usr/{VERSION}"
PAYLOAD = "flatcar_production_update.gz"
PAYLOAD_PATH = f"{FOLDER}/{PAYLOAD}"
RUN = "import runpy; runpy.run_module('omaha_mirror', run_name='__main__', alter_sys=True)"


def real_payload(name: str = "update.gz") -> bytes:
    """A signed payload as released."""
    return (DATA / "payloads" / VERSION / name).read_bytes()


def omaha(name: str) -> bytes:
    """A recorded Omaha message."""
    return (DATA / "omaha" / f"{name}.xml").read_bytes()


def settings(directory: Path, release_url: str, **changes: Any) -> dict[str, Any]:
    """A config that pins `stable` to the one release there is."""
    # One certificate is read in much less time than all those of the system.
    ca_file = str(DATA / "tls" / "authority.pem")
    upstream = {
        "omaha_url": None,
        "release_url": release_url,
        "ca_file": ca_file,
        **changes.pop("upstream", {}),
    }
    cache = {"directory": str(directory / "cache"), "min_free": 0, **changes.pop("cache", {})}
    return {
        "listen": ["127.0.0.1:0"],
        "admin": {"listen": ["127.0.0.1:0"]},
        "cache": cache,
        "state_directory": str(directory / "state"),
        "default_track": "hold",
        "tracks": {"stable": VERSION},
        "upstream": upstream,
        **changes,
    }


class Site:
    """What can be asked of a mirror, wherever it runs."""

    address: Address

    async def check(self, name: str = "request_check_first", **headers: str) -> Answer:
        """Send a recorded Omaha request."""
        return await self.post(omaha(name), **headers)

    async def post(self, body: bytes, **headers: str) -> Answer:
        return await ask(self.address, "POST", "/v1/update/", headers, body)

    async def response(self, body: bytes) -> Response:
        """The answer to an Omaha request, read."""
        answer = await self.post(body)
        assert answer.status == 200, answer.body
        return parse_response(answer.body)

    async def folder(self) -> str:
        """The path of the packages that are offered."""
        [app] = (await self.response(omaha("request_check_first"))).apps
        assert app.update_check is not None
        assert app.update_check.status == "ok"
        path = re.sub(r"^http://[^/]+", "", app.update_check.urls[0].codebase)
        assert re.fullmatch(rf"/packages/{re.escape(VERSION)}-[0-9a-f]{{8}}/", path)
        return path

    async def payload(self) -> str:
        """The path of the payload that is offered."""
        return await self.folder() + PAYLOAD

    async def get(self, path: str, **headers: str) -> Answer:
        return await ask(self.address, "GET", path, headers)

    async def round_trips(self, count: int = 20) -> None:
        """Keep the mirror's loop busy: what it was about to send it has sent then."""
        for _ in range(count):
            assert (await self.get("/healthz")).status == 200


class WatchedObserver(Observer):
    """Tells a test, too, what happens in the cache."""

    def __init__(self, tell: Callable[[events.Event], None], *args: Any) -> None:
        super().__init__(*args)
        self._tell = tell

    def on_cache_event(self, event: events.Event) -> None:
        try:
            super().on_cache_event(event)
        finally:
            self._tell(event)


def public_app(mirror: Service, public_settings: PublicSettings | None = None) -> PublicApp:
    """What answers machines."""
    return PublicApp(mirror.decisions, mirror.packages, mirror.observer, public_settings)


class Mirror(Site):
    """A mirror in this process, with books: requests under way, and what its cache did.

    After a wrong round of a fill the next one follows at once.
    """

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        self.active = 0
        self.events: list[events.Event] = []
        with patch.object(service, "Observer", partial(WatchedObserver, self._note)):
            self.service = Service(config, clock)
        cache = self.service.cache
        cache.limits = replace(cache.limits, round_seconds=0.0)
        self.listener = Listener(self)
        self._app = public_app(self.service, PublicSettings.of(config))
        self._addresses = config.listen
        self._news = asyncio.Event()

    async def start(self) -> None:
        await self.service.start()
        [self.address] = await self.listener.start(self._addresses)

    async def stop(self) -> None:
        await self.listener.stop()
        await self.service.close()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something in the books, which is asked again after each change of them."""
        async with asyncio.timeout(PATIENCE):
            while not holds():
                await self._news.wait()

    def opened(self, count: int) -> Callable[[], bool]:
        """Whether so many readers were opened."""
        return lambda: sum(isinstance(event, events.Opened) for event in self.events) >= count

    def ended(self) -> list[events.FillEnded]:
        """The fills that have ended."""
        return [event for event in self.events if isinstance(event, events.FillEnded)]

    def at_once(self, request: WholeRequest) -> bytes | None:
        """See `PublicApp`."""
        return self._app.at_once(request)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request, with books."""
        self.active += 1
        self._tell()
        try:
            return await self._app(request)
        finally:
            self.active -= 1
            self._tell()

    def _note(self, event: events.Event) -> None:
        self.events.append(event)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


@asynccontextmanager
async def mirror_in_process(
    directory: Path, release_url: str, **changes: Any
) -> AsyncIterator[Mirror]:
    """A running mirror, by a clock that is right or the `clock` given; see `settings` for the other arguments."""
    clock = changes.pop("clock", None) or SetClock(synchronised=True)
    mirror = Mirror(Config.model_validate(settings(directory, release_url, **changes)), clock)
    await mirror.start()
    try:
        yield mirror
    finally:
        await mirror.stop()


class MirrorProcess(Site):
    """A mirror as a process: `python -m omaha_mirror serve`. An async context manager.

    Args:
        directory: for the config, the cache and the state; the next process goes on with them.
        release_url: of the upstream.
        changes: of the config.

    Attributes:
        prelude: Python that it runs first.
    """

    def __init__(self, directory: Path, release_url: str, **changes: Any) -> None:
        self.prelude = ""
        self.log: list[str] = []
        self._partial = directory / "cache" / "partial"
        self._config = directory / "config.yaml"
        self._config.write_text(yaml.safe_dump(settings(directory, release_url, **changes)))

    async def __aenter__(self) -> Self:
        program = ("-c", f"{self.prelude}\n{RUN}") if self.prelude else ("-m", "omaha_mirror")
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, *program, "serve", "--config", str(self._config)),
            stderr=asyncio.subprocess.PIPE,
        )
        self._news = asyncio.Event()
        self._pump = asyncio.create_task(self._read_log())
        listening = await self.logged("omaha-mirror listens on http://")
        self.address = Address.parse(listening.rpartition("/")[2].strip())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            await self.kill()

    async def logged(self, words: str) -> str:
        """Wait for a line of the log that has these words."""
        async with asyncio.timeout(PATIENCE):
            while not (found := [line for line in self.log if words in line]):
                self._news.clear()
                await self._news.wait()
        return found[0]

    async def logged_so_far(self) -> list[str]:
        """All lines of what has happened: they come in order, and a little later. Needs the level `info`."""
        mark = f"mark-{len(self.log)}"
        body = omaha("request_check_first").replace(b'track="stable"', f'track="{mark}"'.encode())
        await self.response(body)
        await self.logged(f'"{mark}"')
        return self.log

    def journals(self) -> list[Path]:
        """The journals of the fills under way."""
        return list(self._partial.glob("*.json"))

    def reload(self, text: str) -> None:
        """Give it another config, and tell it so."""
        self._config.write_text(text)
        self._process.send_signal(signal.SIGHUP)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def config(self) -> str:
        """The config's text."""
        return self._config.read_text()

    async def terminate(self) -> int:
        """Ask it to stop; the exit code."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> int:
        """End it as a crash or a power cut does."""
        return await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        async with asyncio.timeout(PATIENCE):
            code = await self._process.wait()
            await self._pump
        return code

    async def _read_log(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.log.append(line.decode())
            self._news.set()
