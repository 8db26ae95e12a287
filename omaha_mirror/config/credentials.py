"""Keys, certificates and passwords: the vendor's public keys, TLS for machines, and the password for packages.

A public key is read with the config: another key in its file is a change of the config.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticKnownError

from omaha_mirror.aio.clock import kernel_synchronised
from omaha_mirror.config.section import Listen, Location, Secret, Section, located, readable
from omaha_mirror.config.units import Address


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file with one public key.

    Attributes:
        path: of the file.
        pem: what is in it, a key that clients can use.
    """

    path: Path
    pem: bytes = field(repr=False)

    def __str__(self) -> str:
        return str(self.path)


def _read(value: object, info: ValidationInfo) -> KeyFile:
    if isinstance(value, KeyFile):
        return value
    if not isinstance(value, str | Path):
        raise PydanticKnownError("string_type")
    from omaha_mirror.payload import BadKey, read_pem  # noqa: PLC0415 (see check_certificate)

    path = readable(located(Path(value), info))
    try:
        return KeyFile(path, read_pem(path))
    except BadKey as error:
        raise ValueError(str(error)) from None


PublicKey = Annotated[
    KeyFile,
    BeforeValidator(_read),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "format": "path"}),
]
"""Written as a path; a relative one is relative to the folder of the config file."""


def check_certificate(path: Path) -> None:
    """Check the first certificate of a PEM file, the mirror's own.

    Its end date is checked only on a synchronised clock: a wrong clock must not stop the start.

    Raises:
        ValueError: it cannot be read, holds no certificate, or an expired one; the message says which.
    """
    from cryptography import x509  # noqa: PLC0415 (its import takes 100 ms, and few need it)

    pem = readable(path).read_bytes()
    try:
        mine = x509.load_pem_x509_certificates(pem)[0]
    except ValueError:
        raise ValueError(f"{path} holds no PEM certificate") from None
    if mine.not_valid_after_utc < datetime.now(UTC) and kernel_synchronised():
        raise ValueError(
            f"the certificate in {path} ended on {mine.not_valid_after_utc:%Y-%m-%d}: put a new one there"
        )


def check_authorities(path: Path) -> Path:
    """The path as it is. Raises ValueError if the file holds no PEM certificate that can be used."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(readable(path))
    except ssl.SSLError:
        raise ValueError(f"{path} holds no PEM certificate") from None
    return path


def server_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """The context of a TLS server, with TLS 1.2 or newer.

    Args:
        certificate: PEM, the mirror's own first and then its chain to a known authority.
        key: PEM without a passphrase; None: it is in the same file.

    Raises:
        OSError: a file cannot be read, or the two cannot be used; the message says which and why.
    """
    for path in (certificate, key or certificate):
        try:
            path.open("rb").close()
        except OSError as error:
            raise type(error)(f"cannot read {path}: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        place = key or certificate
        if error.reason == "KEY_VALUES_MISMATCH":
            why = f"the key in {place} does not belong to the certificate in {certificate}"
        else:
            why = f"{place} holds no PEM key without a passphrase, or {certificate} no certificate"
        raise OSError(why) from None
    return context


SECURE = Address("0.0.0.0", 8443)  # noqa: S104 (machines come from outside)


def _certificate(path: Path) -> Path:
    check_certificate(path)
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
