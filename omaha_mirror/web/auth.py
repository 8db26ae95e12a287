"""Who may have packages: HTTP Basic (RFC 7617), which is what machines can do.

A machine sends DOWNLOAD_USER and DOWNLOAD_PASSWORD of its update.conf with payload requests to https addresses only, and
never with a question for updates (update_engine/libcurl_http_fetcher.cc:201).
"""

from __future__ import annotations

import base64
import hmac
from pathlib import Path

LIMIT = 4096


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


def read_auth(user: str | None, password_file: Path | None) -> BasicAuth | None:
    """Reads the password; None where nobody is asked for one. Raises OSError with a message for people."""
    if user is None or password_file is None:
        return None
    try:
        with password_file.open("rb") as file:
            text = file.read(LIMIT + 1).decode("utf-8", "replace")
    except OSError as error:
        raise OSError(f"cannot read {password_file}: {error.strerror}") from None
    password, _, _ = text.partition("\n")
    password = password.rstrip("\r")
    if not password or not password.isprintable() or len(text) > LIMIT or "\ufffd" in password:
        raise OSError(f"{password_file} holds no password: put one line of printable text into it")
    return BasicAuth(user, password)
