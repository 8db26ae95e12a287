"""Clients that ask again as soon as they are answered; for a process of their own."""

import asyncio

from benchmarks.clients import HOST, head_of


def ask(port: int, request: bytes, count: int, seconds: float) -> int:
    """Ask with `count` clients, each as soon as it is answered; how many answers came.

    A request that says `Connection: close` gets a connection of its own each time.
    """
    return asyncio.run(_ask(port, request, count, seconds))


async def _ask(port: int, request: bytes, count: int, seconds: float) -> int:
    until = asyncio.get_running_loop().time() + seconds
    return sum(await asyncio.gather(*(_keep_asking(port, request, until) for _ in range(count))))


async def _keep_asking(port: int, request: bytes, until: float) -> int:
    loop, answers = asyncio.get_running_loop(), 0
    while loop.time() < until:
        talk = _Talk(request, until)
        await loop.create_connection(lambda talk=talk: talk, HOST, port)  # type: ignore[misc]  # mypy cannot type a lambda's default
        await talk.over
        answers += talk.answers
    return answers


class _Talk(asyncio.Protocol):
    """Sends a request again when its answer is here, until the time is over or the server closes."""

    def __init__(self, request: bytes, until: float) -> None:
        self.answers = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request, self._until = request, until
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if b"\r\n\r\n" not in self._data:
            return
        status, length, body = head_of(self._data)
        if len(body) < length:
            return
        if status != 200:
            raise RuntimeError(f"answered with {status}: {body!r}")
        self.answers += 1
        self._data = b""
        if asyncio.get_running_loop().time() < self._until:
            self._transport.write(self._request)
        else:
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self.over.set_result(None)
