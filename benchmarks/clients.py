"""Clients that cost little, in processes of their own: the server must be what is measured.

They send one request after the other over epoll, and let the kernel throw the bodies away (MSG_TRUNC); over TLS they read
into one buffer.
"""

import heapq
import multiprocessing
import random
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Self

HOST = "127.0.0.1"
PROCESSES = 2
STEP = 1024 * 1024
PATIENCE = 120.0
ETHERNET = 1448
"""Bytes in a segment for slow readers. With loopback's 64 KiB the kernel would hold megabytes for each."""
SLOW_BUFFER = 64 * 1024
MACHINE = b"0123456789abcdef0123456789abcdef"
"""The id in a request that stands for each machine's own."""


def machine_id(number: int) -> str:
    """The id of a simulated machine; neighbours are far apart, as real ones are."""
    return f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032x}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What clients do.

    Attributes:
        port: of the server.
        requests: sent in turn; `MACHINE` in one stands for the next machine's id.
        clients: how many ask at one time.
        seconds: each asks again until these are over, and leaves in mid-body; 0: each asks once.
        kept: whether the connection is kept for the next request.
        rate: bytes a second that each client reads; 0: as fast as they come.
        machines: how many ids there are.
        tls: whether to speak TLS.
    """

    port: int
    requests: Sequence[bytes]
    clients: int = 1
    seconds: float = 0.0
    kept: bool = False
    rate: float = 0.0
    machines: int = 1
    tls: bool = False


@dataclass(slots=True)
class Told:
    """What they got.

    Attributes:
        answers: that came whole.
        count: bytes of bodies.
        elapsed: seconds until the last client was done.
        first: seconds to the first byte of each body.
        total: seconds to the last byte of each answer.
        cipher: that TLS agreed on.
    """

    answers: int = 0
    count: int = 0
    elapsed: float = 0.0
    first: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    cipher: str = ""

    def add(self, other: "Told") -> None:
        """Take in what the clients of another process got."""
        self.answers += other.answers
        self.count += other.count
        self.elapsed = max(self.elapsed, other.elapsed)
        self.first += other.first
        self.total += other.total
        self.cipher = other.cipher


class Clients:
    """Worker processes, started once. A context manager."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn"))

    def __enter__(self) -> Self:
        for started in [self._pool.submit(time.sleep, 0.3) for _ in range(PROCESSES)]:
            started.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def start(self, plan: Plan) -> Callable[[], Told | None]:
        """Let them begin; the function given back tells what they got, and None as long as they are not done."""
        shares = [len(range(i, plan.clients, PROCESSES)) for i in range(PROCESSES)]
        parts = [
            self._pool.submit(follow, plan, share, number)
            for number, share in enumerate(shares)
            if share
        ]
        return partial(_merged, parts)

    def run(self, plan: Plan) -> Told:
        """The same to the end."""
        told = self.start(plan)
        while (found := told()) is None:
            time.sleep(0.01)
        return found


def _merged(parts: list[Future[Told]]) -> Told | None:
    if not all(part.done() for part in parts):
        return None
    found = Told()
    for part in parts:
        found.add(part.result())
    return found


def get(path: str, *, start: int = 0) -> bytes:
    """A request for a package, or the rest of one."""
    fields = [f"GET {path} HTTP/1.1", "Host: mirror.example:8000"]
    fields += [f"Range: bytes={start}-"] if start else []
    return "\r\n".join([*fields, "", ""]).encode()


def post(body: bytes) -> bytes:
    """An update check."""
    fields = ["POST /v1/update/ HTTP/1.1", "Host: mirror.example:8000", "Content-Type: text/xml"]
    return "\r\n".join([*fields, f"Content-Length: {len(body)}", "", ""]).encode() + body


def head_of(data: bytes) -> tuple[int, int, bytes]:
    """Status, announced length, and what came of the body with the head."""
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    [length] = [line[15:] for line in lines if line.startswith(b"content-length:")]
    return int(lines[0].split(b" ")[1]), int(length), rest


def ask(sock: socket.socket, request: bytes) -> bytes:
    """One request and its whole answer, on a connection that stays."""
    sock.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data or len(head_of(data)[2]) < head_of(data)[1]:
        data += sock.recv(65536)
    return data


def follow(plan: Plan, clients: int, process: int) -> Told:
    """Do with `clients` clients what the plan says; raises where an answer is not what it should be."""
    return _Loop(plan, clients, process).run()


class _Client:
    """One connection, and where its answer is."""

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self.reset()

    def reset(self) -> None:
        self.head, self.left, self.in_body = b"", 0, False
        self.got, self.first, self.began = 0, 0.0, time.monotonic()
        self.reading_since = 0.0


class _Loop:
    """The clients of one process."""

    def __init__(self, plan: Plan, clients: int, process: int) -> None:
        self._plan, self._told = plan, Told()
        begin = random.randrange(plan.machines)  # so that each round has other machines
        self._asked, self._numbers = count(), count(process + begin, PROCESSES)
        self._epoll = select.epoll()
        self._by_fd: dict[int, _Client] = {}
        self._paused: list[tuple[float, int]] = []
        self._clients = [_Client() for _ in range(clients)]
        self._buffer = bytearray(STEP)
        close = b"" if plan.kept else b"Connection: close\r\n"
        self._requests = [r.replace(b"Host:", close + b"Host:", 1) for r in plan.requests]
        self._tls = ssl._create_unverified_context() if plan.tls else None
        self._busy = clients

    def run(self) -> Told:
        for client in self._clients if self._plan.kept else ():
            self._connect(client)
        began = time.monotonic()
        until = began + self._plan.seconds
        for client in self._clients:
            self._ask(client)
        while self._busy:
            now = time.monotonic()
            if self._plan.seconds and now > until:
                break
            if now > began + self._plan.seconds + PATIENCE:
                raise RuntimeError(f"{self._busy} clients wait for {PATIENCE:.0f} s")
            for fd, _ in self._epoll.poll(self._wake(now)):
                self._readable(self._by_fd[fd])
        for client in self._clients:
            if client.sock is not None:
                self._told.count += client.got
                self._told.first += [client.first] if client.got else []
                client.sock.close()
        self._told.elapsed = time.monotonic() - began
        return self._told

    def _wake(self, now: float) -> float:
        """Let those read again whose pause is over; seconds until the next one's is."""
        while self._paused and self._paused[0][0] <= now:
            self._epoll.modify(heapq.heappop(self._paused)[1], select.EPOLLIN)
        return min(0.2, self._paused[0][0] - now) if self._paused else 0.2

    def _ask(self, client: _Client) -> None:
        client.reset()
        sock = client.sock or self._connect(client)
        request = self._requests[next(self._asked) % len(self._requests)]
        if MACHINE in request:
            number = next(self._numbers) % self._plan.machines
            request = request.replace(MACHINE, machine_id(number).encode(), 1)
        sock.sendall(request)

    def _connect(self, client: _Client) -> socket.socket:
        sock = socket.socket()
        if self._plan.rate:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, ETHERNET)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect((HOST, self._plan.port))
        if self._tls is not None:
            sock = self._tls.wrap_socket(sock)
            self._told.cipher = str((sock.cipher() or ("",))[0])
        sock.setblocking(False)
        client.sock, self._by_fd[sock.fileno()] = sock, client
        self._epoll.register(sock, select.EPOLLIN)
        return sock

    def _readable(self, client: _Client) -> None:
        """Take what is there; over TLS all of it, as epoll sees only what is not decrypted yet."""
        while client.sock is not None:
            try:
                taken = self._take(client)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            if not taken:
                raise RuntimeError(
                    f"port {self._plan.port} closed {client.left} early: {client.head!r}"
                )
            if client.in_body and client.left == 0:
                self._answered(client)
                return
            if self._plan.rate:
                self._pause(client)
                return
            if self._tls is None:
                return

    def _take(self, client: _Client) -> int:
        assert client.sock is not None
        if not client.in_body:
            data = client.sock.recv(2048 if self._plan.rate else 16384)
            client.head += data
            if b"\r\n\r\n" in client.head:
                self._begin_body(client)
            return len(data)
        most = min(STEP, client.left, *([int(self._plan.rate / 5)] if self._plan.rate else []))
        flags = socket.MSG_TRUNC if self._tls is None else 0
        taken = client.sock.recv_into(self._buffer, most, flags)
        self._got(client, taken)
        return taken

    def _begin_body(self, client: _Client) -> None:
        status, client.left, rest = head_of(client.head)
        if status not in (200, 206):
            raise RuntimeError(f"port {self._plan.port} answered: {client.head!r}")
        client.in_body, client.reading_since = True, time.monotonic()
        if rest:
            self._got(client, len(rest))

    def _got(self, client: _Client, taken: int) -> None:
        if taken and not client.got:
            client.first = time.monotonic() - client.began
        client.got += taken
        client.left -= taken

    def _pause(self, client: _Client) -> None:
        """Read no more before it is due."""
        assert client.sock is not None
        due = client.reading_since + client.got / self._plan.rate
        if due > time.monotonic():
            self._epoll.modify(client.sock, 0)
            heapq.heappush(self._paused, (due, client.sock.fileno()))

    def _answered(self, client: _Client) -> None:
        told = self._told
        told.answers += 1
        told.count += client.got
        told.first.append(client.first)
        told.total.append(time.monotonic() - client.began)
        client.got = 0
        if not self._plan.kept and client.sock is not None:
            del self._by_fd[client.sock.fileno()]
            client.sock.close()
            client.sock = None
        if self._plan.seconds:
            self._ask(client)
        else:
            self._busy -= 1
