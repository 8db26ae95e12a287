"""HTTP on one connection: requests that wait for nothing are answered in the very call that brings their last byte.

They cost no task and no object of aiohttp's. All other requests, what is wrong with one included, are for the handler,
and only it says so: aiohttp's task, which hands it one request after the other, begins with the first of them.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from typing import Any, NamedTuple, cast

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.http_parser import RawRequestMessage

from omaha_mirror.web.fairness import Deadlines, Requests

SPECIAL = ("Expect", "Content-Encoding")
"""Fields that only the handler knows."""
MOST = 16 * 1024
"""Bytes of an answer that is given at once: what waits for a client that does not read stays small."""


class WholeRequest(NamedTuple):
    """A POST with its body.

    Attributes:
        path: as it came.
        scheme: `http` or `https`.
        host: the Host header; empty where there is none.
        remote: the client's address.
        client: the key that it is counted by.
        body: of at most as many bytes as were received at once.
    """

    path: str
    scheme: str
    host: str
    remote: str
    client: str
    body: bytes


AtOnce = Callable[[WholeRequest], bytes | None]
"""Gives the XML that answers a request, of `MOST` bytes; None, or any error: nothing was recorded, and the handler answers it.

A handler has it as `at_once`.
"""


def never(_: WholeRequest) -> None:
    """Leave all requests to the handler."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How a listener answers.

    Attributes:
        at_once: answers requests that need no task.
        requests: take their turns.
        unheard: deadlines for the first request of each connection.
        idle: deadlines for the next request of those without a task.
    """

    at_once: AtOnce
    requests: Requests
    unheard: Deadlines[Any]
    idle: Deadlines[HttpConnection]


class HttpConnection(web.RequestHandler):
    """One connection, and when it answers.

    Args:
        manager: the server.
        serving: how it answers.
        address: of the client.
        key: that the client is counted by; None: of a trusted proxy, whose requests have other clients.
        more: for aiohttp.
    """

    __slots__ = ("_address", "_body", "_had_turn", "_key", "_serving", "_waits_turn", "exempt")

    def __init__(
        self, manager: web.Server, serving: Serving, address: str, key: str | None, **more: Any
    ) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **more)
        self.exempt = key is None
        self._serving, self._address, self._key = serving, address, key or ""
        self._body: StreamReader | None = None
        self._waits_turn = self._had_turn = False

    @abstractmethod
    def on_asked(self, body: StreamReader) -> None:
        """A request has come."""

    @abstractmethod
    def on_answered(self) -> None:
        """It is answered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client can ask now; there is no task yet."""
        super(web.RequestHandler, self).connection_made(transport)
        cast(web.Server, self._manager).connection_made(self, cast(asyncio.Transport, transport))

    def connection_lost(self, exc: BaseException | None) -> None:
        """It has ended."""
        self._serving.idle.cancel(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of requests came, or with none of them aiohttp goes on with those before."""
        waiter, self._waiter = self._waiter, None  # the task need not wake up for every request
        super().data_received(data)
        self._waiter = waiter
        free = self._task_handler is None or (waiter is not None and not waiter.done())
        if self._messages:
            self._body = self._messages[-1][1]
        if not self._messages or not free or self._waits_turn:
            return
        if self.exempt or self._serving.requests.comes(self._key, self._on_turn):
            self._on_turn()
        else:
            self._waits_turn = True
            self._serving.unheard.cancel(self)
            self.on_asked(self._messages[-1][1])

    def _on_turn(self) -> None:
        """Answer what has come, or let the task do so."""
        self._waits_turn = False
        if not self._messages:  # the connection has ended
            return
        message, _ = self._messages[0]
        xml = self._xml(message) if isinstance(message, RawRequestMessage) else None
        if xml is None:
            self._had_turn = True
            self._begin()
        else:
            self._messages.popleft()
            self._answer(xml, closes=self._close or cast(RawRequestMessage, message).should_close)

    def _xml(self, message: RawRequestMessage) -> bytes | None:
        """What answers the only request that has come; None: it is for the handler."""
        [(_, content), *more] = self._messages
        waits = self.writing_paused or self._reading_paused
        if more or waits or self.exempt or self._upgraded or not is_plain(message, content):
            return None
        body = b"".join(cast(Any, content)._buffer)  # and the handler can still read it
        transport = cast(asyncio.Transport, self.transport)
        scheme = "http" if transport.get_extra_info("sslcontext") is None else "https"
        host = message.headers.get("Host", "")
        asked = WholeRequest(message.path, scheme, host, self._address, self._key, body)
        try:
            return self._serving.at_once(asked)
        except Exception:  # the handler meets the same error, and says so
            return None

    def _answer(self, xml: bytes, *, closes: bool) -> None:
        cast(Any, self._parser).message_consumed()
        self._serving.unheard.cancel(self)
        transport = cast(asyncio.Transport, self.transport)
        transport.write(answer(xml, closes=closes))
        self.on_answered()
        if closes:
            transport.close()
        elif self._task_handler is None:
            self._serving.idle.start(self)
        else:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout

    def _begin(self) -> None:
        """Let the task hand over what has come."""
        self._serving.idle.cancel(self)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        else:
            self._task_handler = self._loop.create_task(self.start())

    def took_turn(self) -> bool:
        """Whether the request that the handler gets now has waited for its turn already."""
        taken, self._had_turn = self._had_turn, False
        return taken

    def on_idle(self) -> None:
        """The next request has not come in time."""
        if self._waits_turn:
            self._serving.idle.start(self)
        else:
            self.force_close()

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Answer what waits for its turn, and end."""
        if self._waits_turn:
            self._on_turn()
        if self._task_handler is not None:
            for _ in range(2):  # until the handler has begun with what has come
                await asyncio.sleep(0)
        await super().shutdown(timeout)


def is_plain(message: RawRequestMessage, content: StreamReader) -> bool:
    """Whether it is a POST of HTTP/1.1 that has come whole, and has no field that changes how it is answered."""
    return (
        message.method == "POST"
        and message.version == HttpVersion11
        and type(content) is StreamReader  # else it has no body
        and content.is_eof()
        and not message.upgrade
        and not any(name in message.headers for name in SPECIAL)
    )


def answer(xml: bytes, *, closes: bool) -> bytes:
    """The answer as aiohttp writes it, head and body."""
    end = b"Connection: close\r\n\r\n" if closes else b"\r\n"
    fields = _fields(int(time.time()))
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d%b%b%b" % (
        len(xml),
        fields,
        end,
        xml,
    )


@lru_cache(1)
def _fields(second: int) -> bytes:
    return f"\r\nDate: {formatdate(second, usegmt=True)}\r\nServer: {SERVER_SOFTWARE}\r\n".encode()
