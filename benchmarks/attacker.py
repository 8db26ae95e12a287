"""An attacker on the same network, as a process: as many connections as it gets, and everything that costs a mirror much.

`python -m benchmarks.attacker PLAIN TLS SECONDS CONNECTIONS [PATH...]` attacks two ports of loopback and ends by itself.
The paths are packages that are not cached; the first one may be. Each kind of connection is opened again when the other
end closes it, and all together come from four addresses. It prints what it did.
"""

import asyncio
import json
import random
import resource
import signal
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

HOST = "127.0.0.1"
SOURCES = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
SPARE = 300
"""File descriptors for all that is not counted."""
AT_ONCE = 50
"""Connections that are opened between two rests."""
REST = 0.02
REST_OF_A_CLOSED_ONE = 2.0
IDLE = 5.0
"""Seconds between two requests on a connection that is kept."""
ASKING = 40
"""Connections that ask for made-up things all the time, and those that ask for far ranges."""
HANDSHAKES = 200
"""Connections with the whole of TLS, which costs this process as much as the other end."""

CHECK = """<?xml version="1.0" encoding="UTF-8"?>
<request protocol="3.0" version="CoreOSUpdateEngine-0.1.0.0" ismachine="1"><os version="Chateau" platform="CoreOS"/>
<app appid="{{e96281a6-d1af-4bde-9a0a-97b76e56dc57}}" version="3000.0.0" track="{track}" board="amd64-usr"
 oem="{oem}" machineid="{machine}" bootid="{{{machine}}}"><ping active="1"/><updatecheck/></app></request>
"""


def check(rng: random.Random) -> bytes:
    """Asks for a track and an OEM's package that nobody has heard of."""
    names = {"track": f"t{rng.getrandbits(40):x}", "oem": f"e{rng.getrandbits(40):x}"}
    if rng.random() < 0.5:
        names["track"] = "stable"
    body = CHECK.format(machine=f"{rng.getrandbits(128):032x}", **names).encode()
    host = f"{rng.getrandbits(30):x}.test"
    return b"POST /v1/update/ HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        host.encode(),
        len(body),
        body,
    )


def oem(version: str, rng: random.Random) -> bytes:
    """Asks for an OEM's package by its path."""
    path = f"/amd64-usr/{version}/oem-e{rng.getrandbits(40):x}.gz"
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def get(path: str, field: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{field}\r\n".encode()


def hello() -> bytes:
    """How a TLS handshake begins."""
    context = ssl.create_default_context()
    context.check_hostname = False
    out = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), out)
    with suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return out.read()


class Line(asyncio.Protocol):
    """One connection: says something, and perhaps again, and reads or not."""

    def __init__(self, attack: "Attack", kind: str) -> None:
        self._attack, self._kind = attack, kind
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._attack.count(f"{self._kind}: opened")
        say, again, reads = self._attack.kinds[self._kind]
        if not reads:
            transport.pause_reading()
        transport.write(say())
        if again:
            self._timer = asyncio.get_running_loop().call_later(again, self._again, say, again)

    def _again(self, say: Callable[[], bytes], again: float) -> None:
        self._transport.write(say())
        self._timer = asyncio.get_running_loop().call_later(again, self._again, say, again)

    def connection_lost(self, _: Exception | None) -> None:
        """Be replaced."""
        if self._timer is not None:
            self._timer.cancel()
        self._attack.closed(self._kind)


class Attack:
    """All connections of one attack.

    Attributes:
        kinds: what a kind of connection says, after how many seconds again (0: never), and whether it reads.
    """

    def __init__(self, plain: int, tls: int, connections: int, paths: Sequence[str]) -> None:
        self._rng = rng = random.Random(1)
        self._ports = {"plain": plain, "tls": tls}
        self._observer: Counter[str] = Counter()
        self._open: asyncio.Queue[str] = asyncio.Queue()
        warm, cold = paths[0], paths[1:] or paths
        version = warm.split("/")[2]
        half_post = b"POST /v1/update/ HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n"
        chunk = (
            b"POST /v1/update/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n<\r\n"
        )
        begun = hello()
        self.kinds: dict[str, tuple[Callable[[], bytes], float, bool]] = {
            "plain idle": (lambda: get("/healthz"), IDLE, True),
            "plain silent": (lambda: b"", 0, True),
            "plain half head": (lambda: b"GET / HTTP/1.1\r\nHost: a\r\nX: a", 0, True),
            "plain dribbling head": (lambda: b"a", 1, True),
            "plain large head": (lambda: b"GET / HTTP/1.1\r\n" + _fields(60), 0, True),
            "plain half body": (lambda: half_post + bytes(rng.randrange(50_000)), 0, True),
            "plain trickling chunks": (lambda: chunk, 0, True),
            "plain slow reader": (lambda: get(warm), 0, False),
            "plain slow cold reader": (lambda: get(rng.choice(cold)), 0, False),
            "plain sent ahead": (lambda: get("/nothing") * 500, 0, False),
            "tls silent": (lambda: b"", 0, True),
            "tls begun": (lambda: begun, 0, True),
            "tls garbage": (lambda: rng.randbytes(2000), 1, True),
            "plain asking check": (lambda: check(rng), 0.2, True),
            "plain asking oem": (lambda: oem(version, rng), 0.2, True),
            "plain asking far": (
                lambda: get(rng.choice(cold), "Range: bytes=3000000-\r\n"),
                1,
                True,
            ),
        }
        many = [kind for kind in self.kinds if "asking" not in kind]
        for kind in set(self.kinds) - set(many):
            for _ in range(ASKING):
                self._open.put_nowait(kind)
        for number in range(connections - 3 * ASKING - HANDSHAKES):
            self._open.put_nowait(many[number % len(many)])

    def count(self, what: str) -> None:
        """Note it."""
        self._observer[what] += 1

    def closed(self, kind: str) -> None:
        """The other end closed one; another one takes its place."""
        self.count(f"{kind}: closed")
        asyncio.get_running_loop().call_later(REST_OF_A_CLOSED_ONE, self._open.put_nowait, kind)

    async def run(self, seconds: float) -> dict[str, int]:
        """Attack for so long."""
        tasks = [asyncio.create_task(self._keep_opening())]
        tasks += [asyncio.create_task(self._shake_hands()) for _ in range(HANDSHAKES)]
        await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()
        self._observer["ms of CPU"] = int(time.process_time() * 1e3)
        return dict(sorted(self._observer.items()))

    async def _keep_opening(self) -> None:
        while True:
            kinds = [await self._open.get()]
            while len(kinds) < AT_ONCE and not self._open.empty():
                kinds.append(self._open.get_nowait())
            await asyncio.gather(*map(self._connect, kinds))
            await asyncio.sleep(REST)

    async def _connect(self, kind: str) -> None:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.bind((self._rng.choice(SOURCES), 0))
            await loop.sock_connect(sock, (HOST, self._ports[kind.partition(" ")[0]]))
            await loop.create_connection(lambda: Line(self, kind), sock=sock)
        except OSError as error:
            sock.close()
            self.count(f"not opened: {error.strerror}")
            loop.call_later(REST_OF_A_CLOSED_ONE, self._open.put_nowait, kind)

    async def _shake_hands(self) -> None:
        """Finish the handshake, ask, and stay."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        while True:
            await asyncio.sleep(self._rng.uniform(0, 10))
            try:
                reader, writer = await asyncio.open_connection(
                    HOST, self._ports["tls"], ssl=context, local_addr=(self._rng.choice(SOURCES), 0)
                )
                self.count("tls whole: opened")
                writer.write(get("/healthz"))
                while await reader.read(4096):
                    pass
                writer.close()
            except OSError:
                self.count("tls whole: failed")


def _fields(count: int) -> bytes:
    return b"".join(b"X-%d: %b\r\n" % (number, b"a" * 1000) for number in range(count))


def main(plain: int, tls: int, seconds: float, connections: int, paths: Sequence[str]) -> None:
    signal.alarm(int(seconds) + 60)
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    connections = min(connections, descriptors - SPARE)

    async def attack() -> dict[str, int]:
        return await Attack(plain, tls, connections, paths).run(seconds)

    print(json.dumps(asyncio.run(attack())))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
