"""The TLS listener's certificate, which can be renewed while connections go on."""

from __future__ import annotations

import ssl
from pathlib import Path

from omaha_mirror.config.certificate import server_context


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

    def reload(self) -> None:
        """Read both again. Raises what making one does, and the old ones stay."""
        self._newest = server_context(self._certificate, self._key)

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._newest
