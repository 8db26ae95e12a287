"""Settings of the public listener that can be changed while requests come in: trusted proxies, TLS, a password.

The password is HTTP Basic (RFC 7617), which is what machines can do. A machine sends DOWNLOAD_USER and DOWNLOAD_PASSWORD of
its update.conf with payload requests to https addresses only, and never with a question for updates
(update_engine/libcurl_http_fetcher.cc:201).
"""

from __future__ import annotations

import base64
import hmac
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from omaha_mirror.config import Config
from omaha_mirror.state_file import Damaged, read_file
from omaha_mirror.web.request import Network, trusts
from omaha_mirror.web.tls import Certificate

PASSWORD_LIMIT = 4096


@dataclass(slots=True)
class PublicSettings:
    """Settings of the public listener.

    Attributes:
        trusted: proxies whose X-Forwarded headers count.
        auth: the password that packages need; None: they need none.
        certificate: for TLS; None: there is none.
        public_url: `scheme://host[:port]` that machines reach the mirror by; None: whatever they used.
        fallback: whether answers name upstream's own address as well.
    """

    trusted: tuple[Network, ...] = ()
    auth: BasicAuth | None = None
    certificate: Certificate | None = None
    public_url: str | None = None
    fallback: bool = False

    @classmethod
    def of(cls, config: Config) -> Self:
        """As configured. Raises what `read` raises."""
        tls = config.tls
        settings = cls(
            certificate=Certificate(tls.certificate, tls.key) if tls.certificate else None
        )
        settings.change(config, PublicFiles(_auth(config)))
        return settings

    def trusts(self, address: str) -> bool:
        """Whether an address is that of a trusted proxy."""
        return bool(self.trusted) and trusts(address, self.trusted)

    def read(self, config: Config) -> PublicFiles:
        """Read the files that another config names, for `change`; for a worker thread.

        Raises:
            OSError: one of them cannot be used; the message says why.
        """
        return PublicFiles(_auth(config), self.certificate.read() if self.certificate else None)

    def change(self, config: Config, files: PublicFiles) -> None:
        """Take over what another config says, and what its files hold; TLS stays on, or off."""
        if self.certificate is not None and files.context is not None:
            self.certificate.renew(files.context)
        self.trusted, self.auth = config.trusted_proxies, files.auth
        self.public_url, self.fallback = config.public_url, config.upstream.fallback_to_upstream


@dataclass(frozen=True, slots=True)
class PublicFiles:
    """The contents of the files: the password of packages, and the certificate; None: it stays as it is."""

    auth: BasicAuth | None
    context: ssl.SSLContext | None = None


class BasicAuth:
    """One user and the password."""

    def __init__(self, user: str, password: str) -> None:
        self._expected = f"{user}:{password}".encode()

    def admits(self, authorization: str) -> bool:
        """Whether an Authorization header has both; the time that it takes tells nothing about them."""
        scheme, _, credentials = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            sent = base64.b64decode(credentials.strip(), validate=True)
        except ValueError:
            return False
        return hmac.compare_digest(sent, self._expected)


def _auth(config: Config) -> BasicAuth | None:
    return read_auth(config.packages_auth.user, config.packages_auth.password_file)


def read_auth(user: str | None, password_file: Path | None) -> BasicAuth | None:
    """Reads the password; None where packages need none. Raises OSError with a message for people."""
    if user is None or password_file is None:
        return None
    try:
        first, _, _ = read_file(password_file, PASSWORD_LIMIT).partition(b"\n")
        password = first.rstrip(b"\r").decode()
    except OSError as error:
        raise OSError(f"cannot read {password_file}: {error.strerror}") from None
    except (Damaged, ValueError):
        password = ""
    if not password or not password.isprintable():
        raise OSError(f"{password_file} holds no password: put one line of printable text into it")
    return BasicAuth(user, password)
