"""How a file is asked for in part, what the answer means, and when to ask again.

No I/O and no clock. Where no digest will judge the bytes, only an answer that surely continues the generation already held is delivered:

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

# A server may ask to be left alone this long, and no longer.
MAX_RETRY_AFTER = 120.0
# What of it is honoured by a caller that has somebody waiting.
MAX_HONOURED = 30.0
WHOLE = (200, 203)
"""What answers a GET with the whole file (RFC 9110, sections 15.3.1 and 15.3.4)."""
BACKOFF_BASE = 0.25
BACKOFF_CAP = 5.0

# As servers write it, not only as they should: "bytes=0-9/10", "bytes 0 - 9 / *", "0-9" (curl/lib/http.c).
_CONTENT_RANGE = re.compile(
    r"(?:bytes)?[\s:=]*([0-9]{1,18})\s*-\s*([0-9]{1,18})\s*(?:/\s*([0-9]{1,18}|\*)\s*)?",
    re.IGNORECASE,
)
_NO_BODY = (204, 205)


@dataclass(frozen=True, slots=True)
class BodyPart:
    """Which bytes of an answer's body are to be delivered.

    Attributes:
        first: Offset in the file of the body's first byte; bytes before the one asked for are skipped.
        stop: Offset after the last byte to deliver.
        size: Size of the whole file in bytes.
        validator: Of the generation that the body belongs to.
    """

    first: int
    stop: int
    size: int
    validator: Validator


def request_headers(start: int, stop: int | None, validator: Validator | None) -> dict[str, str]:
    """The header fields that ask for bytes `start` to `stop` of one generation."""
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
    """What the head of an answer means for the request that `request_headers` described.

    Args:
        url: The address asked, for the errors.
        status: The HTTP status code.
        headers: The response's header fields, case-insensitive.
        start: Offset of the first byte asked for.
        stop: Offset after the last byte asked for, None for the end.
        size: The file's size in bytes, if known.
        validator: The generation already held in part, if any.
        judged: Whether a digest will judge the bytes: then any success counts, whatever coding it names.
        ranged: Whether a part was asked for where a part is wanted.

    Raises:
        Gone: 404 or 410.
        Changed: Another generation than the one known.
        BadStatus: Any other status that is not the file.
        BadAnswer: A coded body, or one whose place or size cannot be told.
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


def told_size(url: str, status: int, headers: Mapping[str, str]) -> int | None:
    """Size of the whole file in bytes, as the answer to a GET of it, or of its first byte, tells; None if it does not.

    Raises:
        Gone: 404 or 410.
        BadStatus: Any other status that is not the file.
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
    """Raise what a status other than those wanted, or a coded body, means.

    Where bytes are judged by what they are, any success will do, and a label of a coding says nothing.
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
        raise BadAnswer(f"the server sent the file coded as {coding!r}, which was not asked", url)


def content_length(headers: Mapping[str, str]) -> int | None:
    """Content-Length in bytes, None if absent or not a number."""
    text = headers.get("Content-Length", "")
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def backoff(attempt: int, rng: random.Random, retry_after: float | None = None) -> float:
    """Seconds to wait before the next attempt; `attempt` counts the failures before this one."""
    pause = min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(attempt, 16)) * rng.uniform(0.5, 1.0)
    return max(pause, min(retry_after or 0.0, MAX_HONOURED))


def _placed(url: str, headers: Mapping[str, str], start: int) -> tuple[int, int | None]:
    """Where a 206 begins, which must be `start`, and the size of the whole file if it tells."""
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
    """Whether an answer carries on the known generation.

    A 200 to a Range that had an If-Range says "replaced", unless the validator itself denies it.
    """
    if status == 200 and ranged and known.strong is not None:
        return found.strong == known.strong
    return known.same(found)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds, between 0 and `MAX_RETRY_AFTER`; a date counts from the answer's own."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,18}", text):
        return min(float(text), MAX_RETRY_AFTER)
    until, now = seconds(text), seconds(headers.get("Date"))
    if until is None or now is None:
        return None
    return min(max(until - now, 0.0), MAX_RETRY_AFTER)
