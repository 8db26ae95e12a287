"""ONE table: what an error is answered with, and how it is logged.

Bodies are one plain line: a client must never take an error page for a payload. 500 and 503 are not sent: they slow
a machine's polling down for hours (update_engine/update_check_scheduler.cc:95).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog
from aiohttp import web

from omaha_mirror.aio.tasks import DEFECT
from omaha_mirror.cache import errors as cache
from omaha_mirror.omaha import OmahaError
from omaha_mirror.text import printable

LOG = structlog.get_logger(__name__)


class BadRequest(Exception):
    """A request that cannot be answered as it is.

    Attributes:
        status: the HTTP status to send.
        headers: to send with it.
    """

    def __init__(
        self, message: str, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class Reply:
    """What an error becomes. `level` is a logging method's name, `label` the name in logs and metrics.

    `resumed` answers a client that has some of the package already, where no other try within its attempt can help; None:
    it is closed without an answer, and comes back, up to 20 times (update_engine/libcurl_http_fetcher.cc:301).

    `words` is the client's line where the error's own words are for operators alone.
    """

    status: int
    level: str
    label: str
    resumed: int | None = None
    words: str = ""


UNEXPECTED = Reply(502, "error", "unexpected", words=DEFECT)
TABLE: tuple[tuple[type[BaseException], Reply], ...] = (
    (cache.SourceGone, Reply(404, "warning", "gone-upstream")),
    (cache.ResumeUnsafe, Reply(416, "info", "begin-again")),
    (cache.NotInTime, Reply(504, "warning", "nothing-in-time")),
    (cache.Distrusted, Reply(502, "error", "untrusted", resumed=416)),
    (cache.Untrusted, Reply(502, "error", "untrusted")),
    (cache.CoolingDown, Reply(502, "error", "wrong-bytes", resumed=416)),
    (cache.GenerationEnded, Reply(502, "error", "wrong-bytes")),
    (cache.SourceRefused, Reply(502, "error", "not-allowed")),
    (cache.SourceError, Reply(502, "warning", "upstream")),
    (cache.NoSpace, Reply(502, "error", "no-room")),
    (cache.Stopping, Reply(502, "info", "stopping")),
    (cache.Defect, UNEXPECTED),
    (cache.CacheError, Reply(502, "error", "cache", words=DEFECT)),
    (OSError, Reply(502, "error", "disk", words=DEFECT)),
)
"""First match counts."""
LABELS = {401: "no-password", 403: "not-over-tls", 404: "not-found"}
"""Of requests that cannot be answered as they are; all others are bad ones."""


def reply_to(error: BaseException) -> Reply:
    """How an error is answered and logged."""
    match error:
        case BadRequest(status=status):
            return Reply(status, "info", LABELS.get(status, "bad-request"))
        case OmahaError(http_status=status):
            return Reply(status, "info", "bad-omaha")
    if isinstance(error, OSError) and error.errno is None:
        return UNEXPECTED  # no disk raised it: a forgotten time-out, for one
    return next((reply for type_, reply in TABLE if isinstance(error, type_)), UNEXPECTED)


def plain(status: int, line: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """One plain line."""
    return web.Response(status=status, text=line.rstrip("\n") + "\n", headers=headers)


async def answered(
    request: web.BaseRequest,
    answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    say: Callable[[int, str], web.StreamResponse],
) -> web.StreamResponse:
    """The answer to a request, whatever happens on the way to it, in the handling of another error as well.

    Args:
        request: the client's.
        answer: makes it.
        say: makes an answer of a status and a line.

    Raises:
        ConnectionError: the client left.
        CancelledError: the same, or the mirror stops, before the request has arrived whole or after. One that ended
            other work is an error like others.
    """
    try:
        return await answer(request)
    except ConnectionError as error:
        if request.transport is None or request.transport.is_closing():
            raise
        return _unexpected(request, error, say)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling() or request.content.exception() is error:
            raise
        return _unexpected(request, error, say)
    except Exception as error:
        return _unexpected(request, error, say)


def _unexpected(
    request: web.BaseRequest, error: BaseException, say: Callable[[int, str], web.StreamResponse]
) -> web.StreamResponse:
    LOG.error("unexpected", remote=request.remote, path=printable(request.raw_path), exc_info=error)
    if request.writer.output_size > 0:
        request.protocol.force_close()  # a second head must not land in a body
    return say(UNEXPECTED.status, DEFECT)
