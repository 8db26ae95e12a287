"""Reading what a client sends."""

from __future__ import annotations

import asyncio

from aiohttp import web

from omaha_mirror.web.errors import BadRequest

BODY_LIMIT = 64 * 1024
BODY_SECONDS = 10.0


async def read_body(request: web.BaseRequest) -> bytes:
    """The whole body of a request.

    Raises:
        BadRequest: too large (413), too slow (408), or with a Content-Encoding (415).
    """
    if "Content-Encoding" in request.headers:
        raise BadRequest("send the request without Content-Encoding", 415)
    if (request.content_length or 0) > BODY_LIMIT:
        raise BadRequest(f"a request has at most {BODY_LIMIT} bytes", 413)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > BODY_LIMIT:
                    raise BadRequest(f"a request has at most {BODY_LIMIT} bytes", 413)
    except TimeoutError:
        raise BadRequest(f"the body did not arrive within {BODY_SECONDS:.0f} s", 408) from None
    return bytes(body)
