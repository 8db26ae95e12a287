"""Upstream in a run: the release server and a Nebraska, scripted as ever, on whatever network the loop has."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from omaha_mirror.omaha import OmahaError, parse_request
from tests.sim.books import Books, Published
from tests.sim.releases import BOARD, Release
from tests.sim.schedule import (
    ELSEWHERE,
    OMAHA,
    OMAHA_PORT,
    RELEASE_PORT,
    RULES,
    Armed,
    Event,
    Publish,
    Refuse,
)
from tests.support.faults import Fault, RawHead, Script
from tests.support.nebraska import Nebraska
from tests.support.upstream import Upstream
from tests.support.wire import Conversation, Cut, Request

T = TypeVar("T")
ARRIVING = 0.2
"""Seconds in which what was sent arrives, before a connection is dropped."""


class StreamConversation:
    """One accepted connection, as a pair of asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._task = asyncio.current_task()
        writer.transport.set_write_buffer_limits(0)

    async def request(self) -> Request:
        """See `Conversation`."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, path, _ = first.split(" ")
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Request(method, path, headers, body)

    async def send(
        self, data: bytes | memoryview, count: Callable[[int], None] = lambda _: None
    ) -> None:
        """See `Conversation`."""
        if self._reader.at_eof():
            raise ConnectionResetError
        self._writer.write(data)
        await self._writer.drain()
        count(len(data))

    async def drop(self) -> NoReturn:
        """See `Conversation`."""
        await asyncio.sleep(ARRIVING)
        raise Cut(reset=True)

    def reset(self) -> None:
        """See `Conversation`."""
        self._writer.transport.abort()
        if self._task is not None:
            self._task.cancel()

    async def end(self) -> None:
        """See `Conversation`."""
        self.reset()

    async def run(self, serve: Callable[["StreamConversation"], object]) -> None:
        """Serve until the end, and close."""
        try:
            while True:
                await serve(self)  # type: ignore[misc]
        except Cut as cut:
            if cut.reset:
                self._writer.transport.abort()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass  # asyncio's own server would complain of a cancelled task
        finally:
            self._writer.close()


class _Script(Script):
    """Notes which faults struck."""

    def __init__(self) -> None:
        super().__init__()
        self.struck: list[tuple[str, Fault]] = []

    def take(self, path: str, method: str, kind: type[T], at: int | None = None) -> T | None:
        """See `Script`."""
        taken = super().take(path, method, kind, at)
        if isinstance(taken, Fault):
            self.struck.append((path, taken))
        return taken

    def clear(self) -> None:
        """Forget all that is armed."""
        self._faults.clear()


class Server(Upstream):
    """The scripted upstream at an address of the loop's own network.

    Attributes:
        bare: the path of a file that has no sidecar.
        answered: the requests, and when each came.
        unclear: those of them that were answered with a page: whether upstream counted them is not known.
    """

    def __init__(self, host: str) -> None:
        super().__init__(RELEASE_PORT)
        self._host = host
        self._script: _Script = _Script()
        self._servers: dict[int, asyncio.Server] = {}
        self._ports: dict[StreamConversation, int] = {}
        self.bare = ""
        self.answered: list[tuple[float, Request]] = []
        self.unclear: list[Request] = []

    @property
    def origin(self) -> str:
        """Of the release server."""
        return f"http://{self._host}"

    @property
    def struck(self) -> list[tuple[str, Fault]]:
        """The faults that were met so far, and the path of each."""
        return self._script.struck

    def put(self, path: str, body: bytes, **how: Any) -> None:
        """See `Upstream`."""
        if path == self.bare:
            how["sidecar"] = False
        super().put(path, body, **how)

    async def _answer(self, connection: Conversation, request: Request) -> None:
        self.answered.append((asyncio.get_running_loop().time(), request))
        before = len(self.struck)
        try:
            await super()._answer(connection, request)
        finally:
            # update_engine takes a report for delivered whatever a 200 says, and so does the mirror.
            for path, fault in self.struck[before:]:
                if path == request.path and isinstance(fault, RawHead) and b" 200 " in fault.head:
                    request.status, request.whole = 200, True
                    self.unclear.append(request)

    def heal_all(self) -> None:
        """Disarm all that is armed."""
        self._script.clear()

    async def listen(self) -> None:
        """Listen at both ports."""
        for port in (RELEASE_PORT, OMAHA_PORT):
            await self.listen_at(port)

    async def listen_at(self, port: int) -> None:
        """Listen there (again)."""

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            talk = StreamConversation(reader, writer)
            self._connections[talk] = None
            self._ports[talk] = port
            try:
                await talk.run(self._serve)
            finally:
                self._left(talk)
                del self._ports[talk]

        if port not in self._servers:
            self._servers[port] = await asyncio.start_server(accepted, self._host, port)

    async def refuse_at(self, port: int) -> None:
        """Stop listening there, and reset what is open."""
        if (server := self._servers.pop(port, None)) is not None:
            server.close()
        for talk in [talk for talk, at in self._ports.items() if at == port]:
            talk.reset()

    async def refuse(self) -> None:
        """Stop listening."""
        for port in list(self._servers):
            await self.refuse_at(port)


class Site:
    """Everything upstream.

    Args:
        releases: that it has; the first is offered at once.
        bare: what the release server has besides, without a sidecar.
        host: its address.
        books: told what is published.
        say: adds a line to the story.
    """

    def __init__(
        self,
        releases: tuple[Release, ...],
        bare: Release,
        host: str,
        books: Books,
        say: Callable[[str], None],
    ) -> None:
        self.server = Server(host)
        self.release_url = f"http://{host}"
        self.omaha_url = f"http://{host}:{OMAHA_PORT}{OMAHA}"
        self._books, self._say = books, say
        self._nebraska = Nebraska(self.server)
        self._releases = releases
        self._put()
        self.server.bare = bare.path()
        self.server.put(bare.path(), bare.payload)
        for track in RULES:
            self._nebraska.group(track, releases[0].version)
            books.published.append(Published(track, releases[0].version, 0.0))

    def _put(self) -> None:
        for release in self._releases:
            self._nebraska.publish(release.version, release.files)
            for name, body in release.files.items():
                self.server.put(ELSEWHERE + release.path(name), body)

    async def run(self) -> None:
        """Answer until cancelled."""
        await self.server.listen()
        try:
            await asyncio.Event().wait()
        finally:
            await self.server.refuse()

    async def apply(self, event: Event) -> None:
        """Let happen what is upstream's part of a schedule; returns when it is over."""
        match event:
            case Armed():
                self.server.fault(event.path, event.fault)
            case Publish():
                now = asyncio.get_running_loop().time()
                self._books.published.append(Published(event.track, event.version, now))
                self._say(f"leads {event.track} to {event.version}")
                self._nebraska.groups[_key(self._nebraska, event.track)].version = event.version
            case Refuse():
                self._say(f"refuses connections at port {event.port}")
                await self.server.refuse_at(event.port)
                await asyncio.sleep(event.seconds)
                await self.server.listen_at(event.port)
                self._say(f"listens at port {event.port} again")

    def heal_all(self) -> None:
        """Nothing goes wrong from now on, and all files are right; what has no digest stays as it is."""
        self.server.heal_all()
        self._put()

    # The books

    def fetched(self, path: str) -> int:
        """Bytes of a package that were sent so far, from wherever it can be had."""
        return self.server.bytes_sent(path) + self.server.bytes_sent(ELSEWHERE + path)

    def requests(self, path: str) -> list[Request]:
        """The GETs of a package, from wherever it can be had."""
        server = self.server
        return [*server.requests(path, "GET"), *server.requests(ELSEWHERE + path, "GET")]

    def reported(self) -> list[tuple[str, tuple[int, int, int], float, bool, bool]]:
        """The events that arrived: whose, what, when, whether the answer was sent whole and was 200, and whether it was a page."""
        found = []
        for when, request in self.server.answered:
            if (request.method, request.path) != ("POST", OMAHA):
                continue
            with contextlib.suppress(OmahaError):
                for app in parse_request(request.body).apps:
                    taken = request.whole and request.status == 200
                    found += [
                        (
                            app.machineid,
                            (event.eventtype or 0, event.eventresult or 0, event.errorcode or 0),
                            when,
                            taken,
                            any(request is page for page in self.server.unclear),
                        )
                        for event in app.events
                        if event.previousversion != ""
                    ]
        return found


def _key(nebraska: Nebraska, track: str) -> tuple[str, str, str]:
    [key] = [key for key in nebraska.groups if key[1:] == (track, BOARD)]
    return key


def package_of(path: str) -> str:
    """The path on the release server of a package that was asked for at a mirror, where that can be told."""
    found = re.fullmatch(r"/packages/(.+)-[0-9a-f]{8}/(.+)", path)
    return f"/{BOARD}/{found[1]}/{found[2]}" if found else path
