"""Sections of the config about who is let in, and how."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from omaha_mirror.config.section import Listen, Location, Section
from omaha_mirror.config.units import Address

SECURE = Address("0.0.0.0", 8443)  # noqa: S104 (machines come from outside)


def _certificate(path: Path) -> Path:
    from omaha_mirror.config.certificate import check_certificate  # noqa: PLC0415 (100 ms)

    try:
        check_certificate(path)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    return path


def _secret(path: Path) -> Path:
    """Whether it may be read is seen when it is: an operator's shell may know less than the mirror."""
    try:
        path.open("rb").close()
    except PermissionError:
        pass
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    return path


def _user(name: str) -> str:
    if not name or ":" in name or not name.isprintable():
        raise ValueError(f"{name!r} is not a user name: at least one character, and no colon")
    return name


class TlsConfig(Section):
    """Where machines reach the mirror over TLS. Without a certificate it is switched off."""

    listen: Annotated[Listen, Field(min_length=1)] = (SECURE,)
    certificate: Annotated[Location, AfterValidator(_certificate)] | None = None
    """PEM: the mirror's own first, and those that lead from it to one that machines know."""
    key: Annotated[Location, AfterValidator(_secret)] | None = None
    """PEM, without a passphrase; null: it is in the file of the certificate."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.certificate is None:
            if self.key is not None or self.listen != (SECURE,):
                raise ValueError("without a certificate there is no TLS: set tls.certificate too")
            return self
        from omaha_mirror.config.certificate import server_context  # noqa: PLC0415 (100 ms)

        try:
            server_context(self.certificate, self.key)
        except PermissionError:
            pass  # see _secret
        except OSError as error:
            raise ValueError(str(error)) from None
        return self


class PackagesAuth(Section):
    """Who may have packages: machines with DOWNLOAD_USER and DOWNLOAD_PASSWORD in update.conf."""

    user: Annotated[str, AfterValidator(_user)] | None = None
    password_file: Annotated[Location, AfterValidator(_secret)] | None = None
    """Its first line is the password."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file go together: set both, or none")
        return self
