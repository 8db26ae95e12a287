"""The token of the admin listener: a file that only the mirror's user, and root, can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

LIMIT = 4096


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
