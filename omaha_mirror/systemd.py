"""The protocol between systemd and a service.

Sockets arrive as file descriptors (sd_listen_fds(3)), notifications leave as datagrams (sd_notify(3)). Without the
variables of the environment there are no sockets and no notifications.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection, Mapping

import structlog

LOG = structlog.get_logger(__name__)
FIRST_DESCRIPTOR = 3
DEADLINE = 1.0
"""Seconds that systemd has to accept a datagram."""


def passed_sockets(
    environ: Mapping[str, str], names: Collection[str]
) -> dict[str, list[socket.socket]]:
    """The listening sockets that systemd passed to this process, by name. Call it once.

    Args:
        environ: LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES.
        names: of the sockets; one that was passed without a name has the first of them.

    Raises:
        OSError: a socket does not listen; the message says why.
    """
    found: dict[str, list[socket.socket]] = {name: [] for name in names}
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return found
    count = int(environ.get("LISTEN_FDS", "0"))
    given = environ.get("LISTEN_FDNAMES")
    labels = given.split(":") if given else [next(iter(names))] * count
    for descriptor, name in enumerate(labels, FIRST_DESCRIPTOR):
        if name not in found:
            raise OSError(
                f"systemd passed a socket named {name!r}: FileDescriptorName= of the socket unit"
                f" must be {' or '.join(names)}"
            )
        found[name].append(_listening(descriptor, name))
    return found


def _listening(descriptor: int, name: str) -> socket.socket:
    """Take one descriptor. Raises OSError."""
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)
    if (
        sock.family not in (socket.AF_INET, socket.AF_INET6)
        or sock.type != socket.SOCK_STREAM
        or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        raise OSError(
            f"the {name} socket from systemd does not listen on a TCP port:"
            " its unit needs ListenStream=ADDRESS:PORT and Accept=no"
        )
    return sock


def watchdog(environ: Mapping[str, str]) -> float | None:
    """Seconds without a sign of life after which systemd ends this process, or None (sd_watchdog_enabled(3))."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 or None if ours and microseconds.isdecimal() else None


class Notifier:
    """Sends notifications to systemd. A failure is logged and ends nothing.

    Args:
        environ: with NOTIFY_SOCKET, a path or, after an @, a name in the abstract namespace.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path

    def ready(self) -> None:
        """Say that all listeners are open, or a reload is complete."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that a reload begins; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, sentence: str) -> None:
        """Set the sentence that `systemctl status` shows."""
        self._send(f"STATUS={sentence}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(DEADLINE)
                sock.sendto(message.encode(), self._address)
        except OSError as error:
            LOG.warning("cannot notify systemd", message=message, why=str(error))
