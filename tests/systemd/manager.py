"""What systemd is to a service, for tests: a notify socket, and a parent that holds its listening sockets."""

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import yaml

from omaha_mirror.config import Address
from tests.support.mirror import Site, settings
from tests.support.talk import PATIENCE

START = """
import os, sys
for i, passed in enumerate(map(int, sys.argv[1].split(","))):
    os.dup2(passed, 3 + i)
if sys.argv[3] == "closed":
    os.close(2)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "omaha_mirror", "serve", "--config", sys.argv[2]])
"""


class NotifySocket:
    """Where a service tells how it goes. A context manager.

    Args:
        name: a path or, after an @, a name in the abstract namespace.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.bind(f"\0{name[1:]}" if name.startswith("@") else name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    async def next(self) -> dict[str, str]:
        """The next message: what it sets."""
        async with asyncio.timeout(PATIENCE):
            message = await asyncio.get_running_loop().sock_recv(self._sock, 4096)
        return dict(line.split("=", 1) for line in message.decode().splitlines())

    async def until(self, key: str) -> dict[str, str]:
        """The next message that sets this."""
        while key not in (message := await self.next()):
            pass
        return message

    def waiting(self) -> list[bytes]:
        """What was told already."""
        messages = []
        with suppress(BlockingIOError):
            while True:
                messages.append(self._sock.recv(4096))
        return messages


def listening() -> socket.socket:
    """A TCP socket that listens on loopback."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(4096)
    return sock


def address_of(sock: socket.socket) -> Address:
    return Address(*sock.getsockname())


class SocketUnit(Site):
    """Holds listening sockets, and starts a mirror on them as often as it is asked to. An async context manager.

    Args:
        directory: for the config, the cache and the state.
        release_url: of the upstream.
        sockets: that the mirror gets, by name; the first is the public one.
        environ: that the mirror gets besides ours.
        changes: of the config.
    """

    def __init__(
        self,
        directory: Path,
        release_url: str,
        sockets: Mapping[str, socket.socket],
        environ: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> None:
        self._sockets = sockets
        self._environ = environ or {}
        self._config = directory / "config.yaml"
        config = settings(directory, release_url, **{"log": {"level": "warning"}, **changes})
        self._config.write_text(yaml.safe_dump(config))
        self.address = address_of(next(iter(sockets.values())))
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.communicate()

    async def start(self, stderr: int | None = asyncio.subprocess.PIPE) -> None:
        """Start one; where `stderr` is None, it has none."""
        descriptors = [sock.fileno() for sock in self._sockets.values()]
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", START, ",".join(map(str, descriptors)), str(self._config)),
            "closed" if stderr is None else "open",
            pass_fds=descriptors,
            stderr=stderr,
            env={
                **os.environ,
                "LISTEN_FDS": str(len(descriptors)),
                "LISTEN_FDNAMES": ":".join(self._sockets),
                **self._environ,
            },
        )

    async def ended(self) -> tuple[int, str]:
        """Wait for the mirror's end: its exit code and what it said."""
        assert self.process is not None
        async with asyncio.timeout(PATIENCE):
            _, said = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, (said or b"").decode()
