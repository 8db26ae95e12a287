"""A server that does nothing: each request head is answered with 404 at once. To be attacked instead of a mirror.

`python -m benchmarks.dummy CERTIFICATE` prints the ports that it listens on, without TLS and with it.
"""

import asyncio
import resource
import ssl
import sys

ANSWER = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Dummy(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer, unless answers are not read."""
        if not self._transport.get_write_buffer_size():
            self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def main(certificate: str) -> None:
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    plain = await loop.create_server(Dummy, "127.0.0.1", 0, backlog=1024)
    secure = await loop.create_server(Dummy, "127.0.0.1", 0, backlog=1024, ssl=context)
    print(*(server.sockets[0].getsockname()[1] for server in (plain, secure)), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
