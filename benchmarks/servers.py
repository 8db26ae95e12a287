"""The servers side by side, each as its own processes: this mirror, and nginx where it is installed."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import yaml

from omaha_mirror.config import Address
from tests.support.mirror import PAYLOAD, settings
from tests.support.ports import free_port
from tests.support.talk import Answer, ask

ROOT = Path(__file__).parent.parent
HOST = "127.0.0.1"
TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 20.0


class Server:
    """Processes that listen on one port. An async context manager.

    Args:
        name: for the tables.
        command: starts it in the foreground.
        port: that it will listen on.
        log: where what it says goes.
    """

    def __init__(self, name: str, command: Sequence[str], port: int, log: Path) -> None:
        self.name, self.port = name, port
        self._command, self._log = command, log

    async def __aenter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - before anything is measured
                self._command, cwd=ROOT, stdout=log, stderr=log
            )
        try:
            async with asyncio.timeout(PATIENCE):
                while not self._listens():  # noqa: ASYNC110 - another process has no event to wait for
                    await asyncio.sleep(0.05)
        except BaseException:
            self._process.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, PATIENCE)
        finally:
            self._process.kill()

    async def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        """One request on a connection of its own."""
        return await ask(Address(HOST, self.port), method, path, {}, body)

    def cpu(self) -> float:
        """Seconds of CPU that its processes have used so far."""
        return sum(map(_cpu, self._pids()))

    def memory(self) -> int:
        """Proportional set size of its processes, in bytes."""
        return sum(map(_pss, self._pids()))

    def _pids(self) -> list[int]:
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.name} does not start:\n{self._log.read_text()}")
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    [kib] = [line.split()[1] for line in lines if line.startswith("Pss:")]
    return int(kib) * 1024


def path_of(version: str) -> str:
    """The payload's path on the release server, and on the mirror."""
    return f"/amd64-usr/{version}/{PAYLOAD}"


def mirror(directory: Path, release_url: str, versions: Sequence[str]) -> Server:
    """This mirror, with an empty cache and a track pinned to each version; the first one is `stable`."""
    port = free_port()
    tracks = {f"track-{version}": version for version in versions} | {"stable": versions[0]}
    changes = {"listen": [f"{HOST}:{port}"], "tracks": tracks, "log": {"format": "json"}}
    config = directory / "mirror.yaml"
    config.write_text(yaml.safe_dump(settings(directory, release_url, **changes)))
    command = (sys.executable, "-m", "omaha_mirror", "serve", "--config", str(config))
    return Server("omaha-mirror", command, port, directory / "mirror.log")


def nginx(directory: Path, location: str, *, http: str = "") -> Server | None:
    """Nginx with one worker for each core and one location; None where it is not installed.

    Args:
        directory: for all that it writes.
        location: what `location /` does.
        http: what it says besides for all locations.
    """
    if (program := shutil.which("nginx")) is None:
        return None
    port = free_port()
    folder = directory / "nginx"
    folder.mkdir()
    config = folder / "nginx.conf"
    paths = " ".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(
        f"{'user root;' if os.geteuid() == 0 else ''}"
        f"daemon off; worker_processes auto; pid {folder}/pid; error_log stderr;"
        "events { worker_connections 4096; }"
        f"http {{ access_log {folder}/access.log; sendfile on; tcp_nopush on;"
        f" keepalive_requests 100000000; {paths} {http}"
        f" server {{ listen {HOST}:{port} backlog=4096; location / {{ {location} }} }} }}"
    )
    return Server("nginx", (program, "-c", str(config)), port, folder / "log")
