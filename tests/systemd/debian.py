"""A Debian of its own with a real systemd as PID 1, for tests: debootstrap into a folder, systemd-nspawn to boot it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

PROGRAMS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "nsenter": "util-linux",
    "dpkg-deb": "dpkg",
}
"""What is needed, and the packages that bring it."""
SYSTEM = "systemd,systemd-sysv,dbus,python3,ca-certificates"
CGROUPS = Path("/sys/fs/cgroup")
CLONE_NEWNET = 0x40000000
PATIENCE = 120.0
"""Seconds after which a machine that boots, or a command in it, has failed."""
LOOK_AGAIN = 0.1
"""Seconds between two looks at something that tells nobody when it changes."""


def missing() -> str:
    """Why there can be no such machine here, or ""."""
    lacking = [package for name, package in PROGRAMS.items() if shutil.which(name) is None]
    if lacking:
        return f"needs apt-get install {' '.join(lacking)}"
    return "" if os.geteuid() == 0 else "needs root"


def bootstrap(root: Path) -> None:
    """Install a minimal system from where this machine has its own packages from."""
    release = dict(
        line.split("=", 1)
        for line in Path("/etc/os-release").read_text().splitlines()
        if "=" in line
    )
    suite = release["VERSION_CODENAME"].strip('"')
    indexes = run("apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(SITE)")
    sites = [line.split()[2] for line in indexes.splitlines() if line.startswith(f"{suite} main ")]
    assert sites, "apt-get update has to be run first"
    run("debootstrap", "--variant=minbase", f"--include={SYSTEM}", suite, str(root), sites[0])


def run(*command: str | Path) -> str:
    """Run a command to its good end; what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


class Machine:
    """The booted system. A context manager.

    Args:
        root: what `bootstrap` made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def __enter__(self) -> Self:
        _mount_the_hierarchy_of_systemd()
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._nspawn is not None
        if self._nspawn.poll() is None:
            self._nspawn.terminate()
            try:
                self._nspawn.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()

    def boot(self) -> None:
        """Start it, and return when it is up."""
        options = ("--quiet", "--boot", "--register=no", "--keep-unit", "--private-network")
        self._nspawn = subprocess.Popen(
            ("systemd-nspawn", *options, "--console=read-only", f"--directory={self.root}"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        until(lambda: bool(children.read_text()))
        self._leader = int(children.read_text().split()[0])
        # A unit of Debian's own that was too slow makes it "degraded".
        until(
            lambda: (
                self.try_("systemctl", "is-system-running", "--wait")[1].strip()
                in ("running", "degraded")
            )
        )

    def reboot(self) -> None:
        """Shut it down as `reboot` does, and boot it again."""
        assert self._nspawn is not None
        self.try_("systemctl", "reboot")
        self._nspawn.wait(PATIENCE)
        self.boot()

    def run(self, *command: str) -> str:
        """Run a command in it to its good end; what it printed."""
        code, said = self.try_(*command)
        assert code == 0, f"{command}: {said}"
        return said

    def try_(self, *command: str) -> tuple[int, str]:
        """Run a command in it; its exit status and what it said."""
        done = subprocess.run(
            ("nsenter", f"--target={self._leader}", "--all", *command),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    async def run_beside(self, *command: str) -> str:
        """The same as `run`, while the loop goes on."""
        return await asyncio.to_thread(self.run, *command)

    def show(self, unit: str, key: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", unit, f"--property={key}", "--value").strip()

    def file(self, path: str) -> Path:
        """A path of it, as it is seen from here."""
        return self.root / path.lstrip("/")

    @contextmanager
    def network(self) -> Iterator[None]:
        """Have this thread open its sockets on the machine's loopback."""
        with Path("/proc/thread-self/ns/net").open("rb") as ours:
            _enter(f"/proc/{self._leader}/ns/net")
            try:
                yield
            finally:
                _set_namespace(ours.fileno())


def until(holds: Callable[[], bool]) -> None:
    """Look until something holds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError):
            if holds():
                return
        assert time.monotonic() < deadline
        time.sleep(LOOK_AGAIN)


def _enter(namespace: str) -> None:
    with Path(namespace).open("rb") as file:
        _set_namespace(file.fileno())


def _set_namespace(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _mount_the_hierarchy_of_systemd() -> None:
    """Where the host has the old control groups, systemd wants one hierarchy by its name."""
    mounts = Path("/proc/self/mounts").read_text()
    if f"cgroup2 {CGROUPS} " in mounts or "name=systemd" in mounts:
        return
    place = CGROUPS / "systemd"
    place.mkdir(exist_ok=True)
    run("mount", "-t", "cgroup", "-o", "none,name=systemd", "cgroup", str(place))
