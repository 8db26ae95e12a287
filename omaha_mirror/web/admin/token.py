"""The token of the admin listener: a file that only the mirror's user and root can read."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omaha_mirror.config import Config
from omaha_mirror.state_file import Damaged, read_file, replace_file, restore, sync

LIMIT = 4096
CREDENTIAL = "admin-token"
CREDSTORE = Path("/etc/credstore/omaha-mirror.admin-token")
"""Where the unit's LoadCredential= takes it from (systemd.exec(5))."""


def place(config: Config, environ: Mapping[str, str]) -> Path:
    """The path of the token: as configured, else systemd's credential, else in the state directory.

    An operator's shell has no $CREDENTIALS_DIRECTORY; there it is the file that the credential is loaded from.
    """
    if config.admin.token_file is not None:
        return config.admin.token_file
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    if credentials:
        given = Path(credentials, CREDENTIAL)
        return given if os.path.lexists(given) else config.token_file
    return CREDSTORE if os.access(CREDSTORE, os.R_OK) else config.token_file


@dataclass(frozen=True, slots=True)
class Token:
    """The token that the admin listener requires for changes.

    Attributes:
        value: None if there is none: the listener then refuses all changes.
        trouble: why there is none, and what to do.
    """

    value: str | None
    trouble: str = ""


def read(path: Path) -> str:
    """The token. Raises OSError with a message for people."""
    try:
        return _read(read_file(path, LIMIT))
    except (Damaged, ValueError):
        raise OSError(f"{path} holds no token: put one line of printable ASCII into it") from None


def settle(config: Config, environ: Mapping[str, str]) -> Token:
    """The token, which the first start creates.

    The file in the state directory is the mirror's: a damaged one is put aside and replaced. Any other file is the
    operator's and is never overwritten.
    """
    path = place(config, environ)
    try:
        if config.admin.token_file is None and path == config.token_file:
            return Token(_read_or_renew(path))
        return Token(_read_or_make(path))
    except OSError as error:
        why = str(error) if error.filename is None else f"{path}: {error.strerror}"
        return Token(
            None,
            f"the admin listener refuses all changes, as there is no token: {why}; then restart the mirror",
        )


def _read_or_renew(path: Path) -> str:
    token = restore(path, LIMIT, _read, "there is a new token")
    if token is None:
        token = _new()
        replace_file(path, f"{token}\n".encode())
    return token


def _read_or_make(path: Path) -> str:
    """Create the file if there is none. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(f"{_new()}\n".encode())
                file.flush()
                sync(fd)
        except OSError:
            path.unlink()  # an empty one would count as the operator's
            raise
    return read(path)


def _new() -> str:
    return secrets.token_hex(16)


def _read(content: bytes) -> str:
    text = content.decode("ascii").strip()
    if not text or not text.isprintable():
        raise ValueError("it holds no token")
    return text
