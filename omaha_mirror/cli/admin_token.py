"""The token of the admin listener: a file that only the mirror's user, and root, can read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from omaha_mirror.config import Config

LIMIT = 4096
CREDENTIAL = "admin-token"
CREDSTORE = Path("/etc/credstore/omaha-mirror.admin-token")
"""Where the unit's LoadCredential= takes it from (systemd.exec(5))."""


def place(config: Config, environ: Mapping[str, str]) -> Path:
    """Where the token is: as configured, else systemd's credential, else the state directory.

    An operator's shell has no $CREDENTIALS_DIRECTORY; there it is the file that the credential is loaded from.
    """
    if config.admin.token_file is not None:
        return config.admin.token_file
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    given = Path(credentials, CREDENTIAL) if credentials else CREDSTORE
    return given if os.access(given, os.R_OK) else config.token_file


def read(path: Path) -> str:
    """The token. Raises OSError with a message for people."""
    with path.open("rb") as file:
        text = file.read(LIMIT + 1).decode("ascii", "replace").strip()
    if not text or len(text) > LIMIT or not text.isprintable() or "\ufffd" in text:
        raise OSError(f"{path} holds no token: put one line of printable ASCII into it")
    return text


def read_or_make(path: Path) -> str:
    """The token; made up at the first start. Raises OSError."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return read(path)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(16) + "\n")
    return read(path)
