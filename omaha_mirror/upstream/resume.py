"""Range requests: their header fields, the meaning of the response head, and the pause before a retry.

No I/O and no clock. Without a digest to verify, only a response that surely continues the known generation is used:

- A 206 has to begin at the byte asked for. One that is longer is clipped, one that is shorter ends
  early, and the caller asks for the rest.
- A 200 to a Range means that the server ignores ranges, or that If-Range failed. Its first bytes are
  skipped if nothing is held yet, or if it carries the validator already known.
- A size or validator that differs from what is known is another generation.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from omaha_mirror.upstream.errors import BadAnswer, BadStatus, Changed, Gone
from omaha_mirror.upstream.fetcher import Validator, seconds

# Upper limit of Retry-After.
MAX_RETRY_AFTER = 120.0
# The same while readers wait.
MAX_HONOURED = 30.0
WHOLE = (200, 203)
"""The statuses of a response with the whole file (RFC 9110, sections 15.3.1 and 15.3.4)."""
BACKOFF_BASE = 0.25
BACKOFF_CAP = 5.0

# Invalid forms of servers included: "bytes=0-9/10", "bytes 0 - 9 / *", "0-9" (curl/lib/http.c).
_CONTENT_RANGE = re.compile(
    r"(?:bytes)?[\s:=]*([0-9]{1,18})\s*-\s*([0-9]{1,18})\s*(?:/\s*([0-9]{1,18}|\*)\s*)?",
    re.IGNORECASE,
)
_NO_BODY = (204, 205)


@dataclass(frozen=True, slots=True)
class BodyPart:
    """The bytes of a response's body to deliver.

    Attributes:
        first: Offset in the file of the body's first byte; bytes before the requested one are skipped.
        stop: Offset after the last byte to deliver.
        size: Size of the whole file in bytes.
        validator: Of the generation that the body belongs to.
    """

    first: int
    stop: int
    size: int
    validator: Validator


def request_headers(start: int, stop: int | None, validator: Validator | None) -> dict[str, str]:
    """The header fields of a request for bytes `start` to `stop` of one generation."""
    if start == 0 and stop is None:
        return {}
    headers = {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
    if validator is not None and validator.strong is not None:
        headers["If-Range"] = validator.strong
    return headers


def judge(
    url: str,
    status: int,
    headers: Mapping[str, str],
    *,
    start: int,
    stop: int | None,
    size: int | None,
    validator: Validator | None,
    judged: bool = False,
    ranged: bool = True,
) -> BodyPart:
    """Evaluate the head of the response to a request with `request_headers`.

    Args:
        url: Of the request, for errors.
        status: The HTTP status code.
        headers: The response's header fields, case-insensitive.
        start: Offset of the first requested byte.
        stop: Offset after the last requested byte, None for the end.
        size: The file's size in bytes, if known.
        validator: Of the known generation, if any.
        judged: Whether the caller verifies a digest: then every successful status and coding is accepted.
        ranged: Whether a part of the file was requested, if a part is wanted.

    Raises:
        Gone: 404 or 410.
        Changed: Another generation than the known one.
        BadStatus: Any other status without the file.
        BadAnswer: A coded body, or one of unknown position or size.
    """
    if status == 416 and size is not None and start < size:
        raise Changed(f"the server no longer has byte {start} of {size}", url)
    ranged = ranged and (start > 0 or stop is not None)
    require(url, status, headers, (*WHOLE, 206) if ranged else WHOLE, judged=judged)
    if status == 206 and (ranged or _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))):
        first, total = _placed(url, headers, start if ranged else 0)
    else:
        first, total = 0, content_length(headers)
    if None not in (total, size) and total != size:
        raise Changed(f"the file has {total} bytes now, {size} were expected", url)
    total = size if total is None else total
    if total is None:
        raise BadAnswer("the server does not say how large the file is", url)
    found = Validator.of(headers)
    if validator is not None and not _continues(status, ranged, validator, found):
        raise Changed("the file was replaced: its validator is another one now", url)
    return BodyPart(first, total if stop is None else min(stop, total), total, found)


def declared_size(url: str, status: int, headers: Mapping[str, str]) -> int | None:
    """Size of the whole file in bytes, from the response to a GET of it or of its first byte; None if it has none.

    Raises:
        Gone: 404 or 410.
        BadStatus: Any other status without the file.
    """
    require(url, status, headers, WHOLE, judged=True)
    if status != 206:
        return content_length(headers)
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    return int(match[3]) if match is not None and match[3] not in (None, "*") else None


def require(
    url: str,
    status: int,
    headers: Mapping[str, str],
    wanted: tuple[int, ...],
    *,
    judged: bool = False,
) -> None:
    """Raise the error of an unwanted status or a coded body.

    If the caller verifies a digest, every successful status and coding is accepted.
    """
    if status in (404, 410):
        raise Gone(f"the server has no such file (status {status})", url)
    if judged and 200 <= status < 300 and status not in _NO_BODY:
        return
    if status not in wanted:
        raise BadStatus(
            f"the server answered with status {status}",
            url,
            status=status,
            retry_after=_retry_after(headers),
        )
    coding = headers.get("Content-Encoding", "").strip()
    if coding.lower() not in ("", "identity"):
        raise BadAnswer(
            f"the server sent the file coded as {coding!r}, which was not requested", url
        )


def content_length(headers: Mapping[str, str]) -> int | None:
    """Content-Length in bytes, None if absent or not a number."""
    text = headers.get("Content-Length", "")
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def backoff(attempt: int, rng: random.Random, retry_after: float | None = None) -> float:
    """Seconds to wait before the next attempt; `attempt` counts the failures before this one."""
    pause = min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(attempt, 16)) * rng.uniform(0.5, 1.0)
    return max(pause, min(retry_after or 0.0, MAX_HONOURED))


def _placed(url: str, headers: Mapping[str, str], start: int) -> tuple[int, int | None]:
    """The first byte of a 206, which must be `start`, and the size of the whole file if it has one."""
    text = headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None:
        raise BadAnswer(f"a partial answer with the Content-Range {text!r}", url)
    first, last = int(match[1]), int(match[2])
    total = int(match[3]) if match[3] not in (None, "*") else None
    length = content_length(headers)
    if (
        first != start
        or last < first
        or (total is not None and last >= total)
        or (length is not None and length != last - first + 1)
    ):
        raise BadAnswer(f"asked for bytes from {start}, answered with {text!r}", url)
    return first, total


def _continues(status: int, ranged: bool, known: Validator, found: Validator) -> bool:
    """Whether a response is of the known generation.

    A 200 to a Range with If-Range means another generation, unless it has the same validator.
    """
    if status == 200 and ranged and known.strong is not None:
        return found.strong == known.strong
    return known.same(found)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds, between 0 and `MAX_RETRY_AFTER`; a date is relative to the response's Date."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,18}", text):
        return min(float(text), MAX_RETRY_AFTER)
    until, now = seconds(text), seconds(headers.get("Date"))
    if until is None or now is None:
        return None
    return min(max(until - now, 0.0), MAX_RETRY_AFTER)
