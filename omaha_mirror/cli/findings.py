"""What the doctor finds, and how it waits for things that may hang."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, TypeVar

from omaha_mirror.cli.exits import Exit

DEADLINE = 10.0
"""Seconds that one check may take."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """What a check came to.

    Attributes:
        check: its name.
        state: `warn` is what may be meant so.
        words: how it is; where it is not well, also what to do.
        exit: what a failure ends the command with.
    """

    check: str
    state: Literal["ok", "warn", "fail"]
    words: str
    exit: Exit = Exit.FAILURE


def ok(check: str, words: str) -> Found:
    """All is well."""
    return Found(check, "ok", words)


def warn(check: str, words: str) -> Found:
    """It may be meant so."""
    return Found(check, "warn", words)


def fail(check: str, words: str, exit_: Exit = Exit.FAILURE) -> Found:
    """It must be put right."""
    return Found(check, "fail", words, exit_)


async def in_thread(function: Callable[[], T]) -> T:
    """Call a function that may hang; one that does keeps neither the caller nor the end of the process waiting.

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


def why(error: Exception) -> str:
    """An error in few words."""
    return getattr(error, "strerror", None) or str(error) or "no answer in time"
