"""Who is let in, and whose word is taken: what can be changed while requests come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from omaha_mirror.config import Config
from omaha_mirror.web.auth import BasicAuth, read_auth
from omaha_mirror.web.remote import Network, trusts
from omaha_mirror.web.tls import Certificate


@dataclass(slots=True)
class Edge:
    """What stands before the public listener.

    Attributes:
        trusted: proxies whose word about a client is believed.
        auth: who may have packages; None: everybody.
        certificate: for TLS; None: there is none.
    """

    trusted: tuple[Network, ...] = ()
    auth: BasicAuth | None = None
    certificate: Certificate | None = None

    @classmethod
    def of(cls, config: Config) -> Self:
        """As configured. Raises what `change` raises."""
        tls = config.tls
        edge = cls(certificate=Certificate(tls.certificate, tls.key) if tls.certificate else None)
        edge.change(config)
        return edge

    def trusts(self, address: str) -> bool:
        """Whether an address is that of a trusted proxy."""
        return bool(self.trusted) and trusts(address, self.trusted)

    def change(self, config: Config) -> None:
        """Take over what another config says, and what its files hold now; TLS stays on, or off.

        Raises:
            OSError: one of the files cannot be used, and all stays as it was; the message says why.
        """
        auth = read_auth(config.packages_auth.user, config.packages_auth.password_file)
        if self.certificate is not None:
            self.certificate.reload()
        self.trusted, self.auth = config.trusted_proxies, auth
