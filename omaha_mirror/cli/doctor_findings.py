"""The results of the doctor's checks, and calls and requests with a deadline for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, TypeVar

import aiohttp

from omaha_mirror.cli.exits import Exit

DEADLINE = 10.0
"""Seconds that one check may take."""
LIMIT = 256 * 1024
"""Bytes of a response that a check reads."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a check.

    Attributes:
        check: its name.
        state: `warn` is what may be intended.
        words: what the check found; unless it is `ok`, also what to do.
        exit: the exit code of a failure.
    """

    check: str
    state: Literal["ok", "warn", "fail"]
    words: str
    exit: Exit = Exit.FAILURE


def ok(check: str, words: str) -> Found:
    """A result that needs no action."""
    return Found(check, "ok", words)


def warn(check: str, words: str) -> Found:
    """A result that may be intended."""
    return Found(check, "warn", words)


def fail(check: str, words: str, exit_: Exit = Exit.FAILURE) -> Found:
    """A result that must be put right."""
    return Found(check, "fail", words, exit_)


async def in_thread(function: Callable[[], T]) -> T:
    """Call a function that may hang; one that does delays neither the caller nor the end of the process.

    Raises:
        TimeoutError: it has not returned within `DEADLINE`.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    async with asyncio.timeout(DEADLINE):
        return await asyncio.wrap_future(future)


async def get(url: str) -> tuple[int, bytes]:
    """The status and body of a small response. Raises ConnectionError, in words."""
    body = bytearray()
    try:
        async with (
            asyncio.timeout(DEADLINE),
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            while len(body) <= LIMIT and (chunk := await response.content.readany()):
                body += chunk
            return response.status, bytes(body)
    except TimeoutError:
        raise ConnectionError(f"nothing came for {DEADLINE:.0f} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise ConnectionError(why(error)) from error


def why(error: Exception) -> str:
    """An error in few words."""
    return getattr(error, "strerror", None) or str(error) or "no answer in time"
