"""The TLS listener's certificate, which can be renewed while connections go on."""

from __future__ import annotations

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from pathlib import Path

from omaha_mirror.config.credentials import server_context
from omaha_mirror.web.connection import Connection

RECORD = 4 * 1024
"""Bytes that are read at a time, which is more than a request has: asyncio's default is a buffer of 256 KiB a connection."""
FAREWELL = 5.0
"""Seconds that a client gets to close its side of TLS, too."""


class Secure(SSLProtocol):
    """The TLS of one connection, which is a protocol over the plain one: what was accepted is counted before any of it.

    Args:
        connection: the protocol inside TLS; it also hears of the bytes below.
        context: for it.
    """

    max_size = RECORD

    def __init__(self, connection: Connection, context: ssl.SSLContext) -> None:
        super().__init__(
            asyncio.get_running_loop(),
            connection,
            context,
            None,  # type: ignore[arg-type]  # nobody waits for the handshake
            server_side=True,
            ssl_shutdown_timeout=FAREWELL,
        )
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake can begin."""
        self._connection.accepted(transport)
        super().connection_made(transport)

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came from the network."""
        self._connection.on_handshake_bytes(nbytes)
        super().buffer_updated(nbytes)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The end, which asyncio tells the connection of only if the handshake was ever over."""
        if self._connection.transport is None:
            self._connection.on_handshake_failure(exc)
        super().connection_lost(exc)
        self._connection.connection_lost(exc)
        if exc is not None:
            exc.__traceback__ = None  # asyncio's frame in it keeps the error, and this connection


class Certificate:
    """A certificate and its key, as they were when they were last read.

    Each handshake takes the newest ones: loading a new pair into a context that is in use would keep the old one beside
    it where the kinds of the keys differ.

    Args:
        certificate: PEM.
        key: PEM; None: it is in the same file.

    Raises:
        OSError: a file cannot be read, or the two cannot be used.
    """

    def __init__(self, certificate: Path, key: Path | None) -> None:
        self._certificate, self._key = certificate, key
        self._newest = self.context = server_context(certificate, key)
        self.context.sni_callback = self._choose

    def read(self) -> ssl.SSLContext:
        """Read both again, for `renew`. Raises what making one does."""
        return server_context(self._certificate, self._key)

    def renew(self, context: ssl.SSLContext) -> None:
        """Use what was read for the handshakes from now on."""
        self._newest = context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._newest
