"""The head of a response as libcurl reads it, with which the machines download, in the strict form for any parser.

A fault that libcurl tolerates is no reason to refuse a file: fields of many kilobytes or by the hundred, one
Content-Length twice, folded lines, a status line without a reason. Only the fields that this mirror reads are kept.
"""

import re
from collections.abc import Iterator

MAX_HEAD = 300 * 1024
"""Bytes of all fields together (curl/lib/http.h, MAX_HTTP_RESP_HEADER_SIZE)."""
END = re.compile(rb"\r?\n\r?\n")

_STATUS = re.compile(rb"HTTP(?:/([0-9])(?:\.([0-9]))?)?[ \t]+([0-9]{3})(?![0-9])", re.IGNORECASE)
_KEPT = {
    name.lower(): name
    for name in (
        b"Accept-Ranges",
        b"Age",
        b"Cache-Status",
        b"Content-Encoding",
        b"Content-Range",
        b"Content-Type",
        b"Date",
        b"ETag",
        b"Last-Modified",
        b"Location",
        b"Retry-After",
    )
}
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]+")
_LENGTH = re.compile(rb"\+?0*([0-9]{1,18})(?![0-9])")

Fields = dict[bytes, list[bytes]]
"""Values by name in lower case, in the order of the head."""


class NotHttp(ValueError):
    """The bytes are no head of an HTTP/1 response."""


def status(head: bytes) -> int:
    """The status code. Raises NotHttp."""
    return int(_status_line(head)[3])


def plain(head: bytes) -> bytes:
    """The same head in the strict form of RFC 9112, up to and with its empty line. Raises NotHttp.

    Of two transfer codings the last is used; two different lengths, or an excessive one, count as none.

    Args:
        head: from the status line on; bytes after the first empty line are ignored.
    """
    line = _status_line(head)
    if len(head) > MAX_HEAD:
        raise NotHttp(f"its head is longer than {MAX_HEAD} bytes")
    old = line[1] in (None, b"0") or (line[1] == b"1" and line[2] == b"0")
    fields = _fields(head)
    lines = [b"HTTP/1.%d %s -" % (not old, line[3])]
    lines += (b"%s: %s" % (name, fields[key][0]) for key, name in _KEPT.items() if key in fields)
    lines += _framing(fields, _tokens(fields, b"connection"))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _status_line(head: bytes) -> re.Match[bytes]:
    found = _STATUS.match(head)
    if found is None:
        raise NotHttp(f"{head[:40]!r} is no status line")
    return found


def _fields(head: bytes) -> Fields:
    fields: Fields = {}
    for line in _unfolded(head):
        name, colon, value = line.partition(b":")
        if colon:
            clean = _CONTROL.sub(b" ", value).strip()
            fields.setdefault(name.strip().lower(), []).append(clean)
    return fields


def _unfolded(head: bytes) -> Iterator[bytes]:
    """The lines of the fields; one that begins with a space goes on with the one before (RFC 9112, section 5.2)."""
    field = b""
    for line in head.split(b"\n")[1:]:
        bare = line.rstrip(b"\r")
        if not bare:
            break
        if bare[:1] in (b" ", b"\t"):
            field += b" " + bare.strip()
        else:
            yield field
            field = bare
    yield field


def _framing(fields: Fields, connection: list[bytes]) -> Iterator[bytes]:
    """How long the body is: chunked, of one length, or until the connection closes."""
    lengths = {
        found[1] if (found := _LENGTH.match(text)) else b""
        for text in _tokens(fields, b"content-length")
    }
    codings = [coding for coding in _tokens(fields, b"transfer-encoding") if coding != b"identity"]
    if codings:
        yield b"Transfer-Encoding: " + codings[-1]
    elif len(lengths) == 1 and b"" not in lengths:
        yield b"Content-Length: " + lengths.pop()
    elif lengths:
        connection = [b"close"]
    if connection:
        yield b"Connection: " + b", ".join(connection)


def _tokens(fields: Fields, name: bytes) -> list[bytes]:
    """The values of a field that is a list, in lower case."""
    listed = b",".join(fields.get(name, [])).lower().split(b",")
    return [token for text in listed if (token := text.strip())]
