"""Sections of the config about TLS and passwords for packages."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from omaha_mirror.config.pem import check_certificate, server_context
from omaha_mirror.config.section import Listen, Location, Secret, Section, readable
from omaha_mirror.config.units import Address

SECURE = Address("0.0.0.0", 8443)  # noqa: S104 (machines come from outside)


def _certificate(path: Path) -> Path:
    check_certificate(readable(path))
    return path


def _user(name: str) -> str:
    if not name or ":" in name or not name.isprintable():
        raise ValueError(f"{name!r} is not a user name: at least one character, and no colon")
    return name


class TlsConfig(Section):
    """The TLS listener for machines. Without a certificate it is switched off."""

    listen: Annotated[Listen, Field(min_length=1)] = (SECURE,)
    certificate: Annotated[Location, AfterValidator(_certificate)] | None = None
    """PEM: the mirror's own first, then its chain to an authority that machines trust."""
    key: Secret | None = None
    """PEM, without a passphrase; null: the key is in the file of the certificate."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.certificate is None:
            if self.key is not None or self.listen != (SECURE,):
                raise ValueError("without a certificate there is no TLS: set tls.certificate too")
            return self
        try:
            server_context(self.certificate, self.key)
        except PermissionError:
            pass  # see Secret
        except OSError as error:
            raise ValueError(str(error)) from None
        return self


class PackagesAuth(Section):
    """The password that packages require: DOWNLOAD_USER and DOWNLOAD_PASSWORD of the machines' update.conf."""

    user: Annotated[str, AfterValidator(_user)] | None = None
    password_file: Secret | None = None
    """Its first line is the password."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file go together: set both, or none")
        return self
