"""The doctor's checks of this host: directories, disk, addresses, the token, and the running mirror."""

from __future__ import annotations

import errno
import json
import os
import pwd
import resource
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from rich.filesize import decimal

from omaha_mirror.cache.lock import DirectoryInUse, in_use
from omaha_mirror.cli.config import PORTLESS
from omaha_mirror.cli.doctor_findings import DEADLINE, Found, fail, get, in_thread, ok, warn, why
from omaha_mirror.config import Address, Config
from omaha_mirror.observability.health import State, writable
from omaha_mirror.packages.payload_prover import keys_in
from omaha_mirror.web.admin import token as admin_token

DESCRIPTORS = 4096
"""File descriptors with which a mirror serves a small fleet."""
SOCKET_UNIT = "omaha-mirror.socket"


async def examine_host(config: Config) -> list[Found]:
    """All checks that need no upstream."""
    cache, state = config.cache.directory, config.state_directory
    looks: list[tuple[str, Callable[[], list[Found]]]] = [
        ("cache", lambda: [directory("cache", cache), *file_system(cache)]),
        ("state", lambda: [directory("state", state)]),
        ("disk", lambda: [disk(config)]),
        ("token", lambda: [token(config)]),
        ("keys", lambda: keys(config)),
    ]
    found = [look for name, check in looks for look in await _patiently(name, check)]
    try:
        running = await in_thread(partial(in_use, cache))
    except (OSError, TimeoutError) as error:
        found.append(warn("mirror", f"it is not known whether one runs on {cache}: {why(error)}"))
        running = None
    found.append(descriptors(running))
    return [
        *found,
        *[await listening("listen", at, "/healthz", running) for at in config.listen],
        *[await listening("admin", at, "/readyz", running) for at in config.admin.listen],
        *await readiness(running),
        *await public_url(config.public_url, behind_proxies=bool(config.trusted_proxies)),
    ]


async def _patiently(name: str, check: Callable[[], list[Found]]) -> list[Found]:
    try:
        return await in_thread(check)
    except TimeoutError:
        words = f"the disk has not answered for {DEADLINE:.0f} s: see the kernel's log (dmesg)"
        return [fail(name, words)]
    except OSError as error:
        return [fail(name, f"{error}: run this as root or the mirror's user")]


def directory(name: str, path: Path) -> Found:
    """Whether the mirror can write to a directory; waits for the disk."""
    user = _user(os.geteuid())
    if not path.exists():
        above = next(parent for parent in path.parents if parent.exists())
        if os.access(above, os.W_OK | os.X_OK):
            return ok(name, f"{path} will be made at the first start")
        return fail(name, f"{path} is not there, and {user} cannot make it in {above}: make it")
    found = writable(name, path)
    if found.state is State.OK:
        return ok(name, f"{path} can be written to by {user}")
    owner = _user(path.stat().st_uid)
    return fail(name, f"{found.words} (it belongs to {owner}, and this is run by {user})")


def file_system(path: Path) -> Iterator[Found]:
    """Whether a file system can hold a cache; waits for the disk."""
    parts = [part for part in (path, path / "blobs", path / "partial") if part.is_dir()]
    if len({part.stat().st_dev for part in parts}) > 1:
        words = f"{path} is on several file systems: mount one disk for all of it, as packages are renamed within it"
        yield fail("cache", words)
    if parts:
        facts = os.statvfs(path)
        if facts.f_files and not facts.f_favail:
            yield fail("cache", f"the file system of {path} has no inode left: remove files there")


def disk(config: Config) -> Found:
    """Whether the disk is as large as the config requires; waits for the disk."""
    path = next(p for p in (config.cache.directory, *config.cache.directory.parents) if p.exists())
    usage, cache = shutil.disk_usage(path), config.cache
    if usage.free < cache.min_free:
        return fail(
            "disk",
            f"{decimal(usage.free)} are free on the disk of {path}, fewer than cache.min_free"
            f" ({decimal(cache.min_free)}): make room, or lower it",
        )
    if usage.total < cache.max_size + cache.min_free:
        return warn(
            "disk",
            f"the disk of {path} has {decimal(usage.total)}, too few for cache.max_size"
            f" ({decimal(cache.max_size)}) and cache.min_free ({decimal(cache.min_free)}): the"
            " oldest packages go earlier",
        )
    return ok("disk", f"{decimal(usage.free)} of {decimal(usage.total)} are free")


def token(config: Config) -> Found:
    """Whether the admin token exists, and only its owner can read it; waits for the disk."""
    if not config.admin.listen:
        return ok("token", "not needed: admin.listen is empty")
    place = admin_token.place(config, os.environ)
    try:
        mode = stat.S_IMODE(place.stat().st_mode)
        admin_token.read(place)
    except FileNotFoundError:
        return ok("token", f"{place} will be made at the first start")
    except PermissionError:
        user = _user(os.geteuid())
        return fail("token", f"{user} cannot read {place}: run this as root or the mirror's user")
    except OSError as error:
        return fail("token", str(error))
    if mode & 0o077:
        return warn("token", f"{place} can be read by others ({mode:o}): chmod 600 {place}")
    return ok("token", f"{place} is a secret")


def keys(config: Config) -> list[Found]:
    """The public keys of `upstream.public_keys`."""
    found = keys_in(config.upstream.key_files)
    if not found:
        return [ok("keys", "no key: machines alone check the signature; see upstream.public_keys")]
    return [
        ok("keys", f"{key.name}: RSA, {key.public.key_size} bits, id {key.id}") for key in found
    ]


def descriptors(running: DirectoryInUse | None) -> Found:
    """Whether the running mirror, else this shell, may open enough files for a fleet."""
    process, most = "this shell", resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if running is not None and running.holder is not None:
        with suppress(OSError):
            most = resource.prlimit(running.holder.pid, resource.RLIMIT_NOFILE)[1]
            process = "the running mirror"
    words = f"{process} may open {most} files at once"
    if most < DESCRIPTORS:
        return warn("descriptors", f"{words}, few for a fleet: set LimitNOFILE=65536 in its unit")
    return ok("descriptors", words)


async def listening(
    name: str, address: Address, path: str, running: DirectoryInUse | None
) -> Found:
    """Whether an address is free, or the running mirror listens on it."""
    try:
        await in_thread(lambda: _bind(address))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return await _taken(name, address, path, running)
        if error.errno == errno.EACCES:
            words = f"{address}: {_user(os.geteuid())} may not use a port below 1024"
            return fail(name, f"{words}: take another, or AmbientCapabilities=CAP_NET_BIND_SERVICE")
        words = f"{address}: {why(error)}: name an address of this host, or :{address.port}"
        return fail(name, words)
    if running is not None and address.port:
        return warn(
            name, f"{address} is free although {_holder(running)}: restart it to listen there"
        )
    return ok(name, f"{address} is free")


async def _taken(name: str, address: Address, path: str, running: DirectoryInUse | None) -> Found:
    if running is not None:
        try:
            await get(f"http://{address.from_here}{path}")
        except ConnectionError as error:
            return fail(name, f"{_holder(running)}, but {address} does not answer: {error}")
        return ok(name, f"{address} is the running mirror's")
    if await in_thread(_socket_unit_is_active):
        return ok(name, f"{address} is held by {SOCKET_UNIT}")
    words = f"another program listens on {address}: ss -ltnp 'sport = :{address.port}' names it"
    return fail(name, words)


async def readiness(running: DirectoryInUse | None) -> list[Found]:
    """The health of the running mirror."""
    if running is None:
        return [ok("mirror", "none runs on this cache")]
    if running.holder is None or running.holder.admin is None:
        return [
            warn(
                "mirror", f"{_holder(running)}, without an admin listener: its health is not known"
            )
        ]
    url = f"http://{Address.parse(running.holder.admin).from_here}/readyz"
    try:
        health = json.loads((await get(url))[1])
        checks = [(str(c["name"]), str(c["state"]), str(c["words"])) for c in health["checks"]]
    except ConnectionError as error:
        return [fail("mirror", f"{url} does not answer: {error}")]
    except (ValueError, LookupError, TypeError):
        return [fail("mirror", f"{url} does not answer with its health")]
    makers = {State.DEGRADED: warn, State.FAILED: fail}
    wrong = [makers[State(s)](f"mirror: {n}", w) for n, s, w in checks if s in makers]
    return wrong or [ok("mirror", f"{_holder(running)} and is ready")]


async def public_url(url: str | None, *, behind_proxies: bool) -> list[Found]:
    """Whether public_url leads to this mirror."""
    if url is None and behind_proxies:
        return [warn("public_url", PORTLESS)]
    if url is None:
        return [
            ok("public_url", "each machine gets package URLs with the host name of its own request")
        ]
    try:
        status, _ = await get(f"{url}/healthz")
    except ConnectionError as error:
        words = f"{url} cannot be reached from here: {error}; is the mirror running?"
        return [warn("public_url", words)]
    if status != 200:
        return [warn("public_url", f"{url}/healthz answers {status}: is that this mirror?")]
    return [ok("public_url", f"{url} answers")]


def _bind(address: Address) -> None:
    """Bind an address and release it. Raises OSError."""
    found = socket.getaddrinfo(
        address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    for family, kind, proto, _, place in found:
        with socket.socket(family, kind, proto) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(place)


def _socket_unit_is_active() -> bool:
    """Whether systemd listens for the mirror. A connection would show it too, but also start the mirror."""
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return False
    command = [systemctl, "is-active", "--quiet", SOCKET_UNIT]
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(  # noqa: S603 (a fixed command)
            command, check=False, timeout=DEADLINE / 2, stderr=subprocess.DEVNULL
        )
        return done.returncode == 0
    return False


def _holder(running: DirectoryInUse) -> str:
    holder = running.holder
    return f"process {holder.pid} runs" if holder is not None else "a mirror runs"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
