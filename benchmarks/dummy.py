"""A server that does nothing: each request is answered with 404 at once. To be attacked instead of a mirror.

`python -m benchmarks.dummy CERTIFICATE` prints the ports that it listens on, without TLS and with it. It closes connections
when the mirror does, so that the attacker opens as many again and costs the machine as much.
"""

import asyncio
import resource
import ssl
import sys

from omaha_mirror.web.server import FIRST_REQUEST, KEEP_ALIVE

ANSWER = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
HEAD, BODY = b"\r\n\r\n", b"</request>\n"
"""How what the attacker sends ends, where it is whole."""


class Dummy(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for its first request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._wait(FIRST_REQUEST)

    def data_received(self, data: bytes) -> None:
        """Answer, unless answers are not read."""
        if data.endswith((HEAD, BODY)):
            self._end.cancel()
            self._wait(KEEP_ALIVE)
            if not self._transport.get_write_buffer_size():
                self._transport.write(ANSWER * max(1, data.count(HEAD)))

    def connection_lost(self, _: Exception | None) -> None:
        """Wait no more."""
        self._end.cancel()

    def _wait(self, seconds: float) -> None:
        self._end = asyncio.get_running_loop().call_later(seconds, self._transport.abort)


async def main(certificate: str) -> None:
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    plain = await loop.create_server(Dummy, "127.0.0.1", 0, backlog=1024)
    secure = await loop.create_server(
        Dummy, "127.0.0.1", 0, backlog=1024, ssl=context, ssl_handshake_timeout=FIRST_REQUEST
    )
    print(*(server.sockets[0].getsockname()[1] for server in (plain, secure)), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
