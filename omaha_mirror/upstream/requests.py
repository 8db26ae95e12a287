"""Requests to servers upstream: aiohttp under this mirror's own limits, redirect rule and proxy rule."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from omaha_mirror import __version__
from omaha_mirror.aio.clock import SET_CLOCK, Clock
from omaha_mirror.config import UpstreamConfig
from omaha_mirror.config.environment import proxy_of
from omaha_mirror.upstream.allowed import AllowList, as_it_came
from omaha_mirror.upstream.connector import LenientConnector
from omaha_mirror.upstream.errors import BadAnswer, Dropped, Forbidden, Stalled, Unreachable
from omaha_mirror.upstream.fetcher import seconds
from omaha_mirror.upstream.head import MAX_HEAD

MAX_REDIRECTS = 10
"""As many as a machine follows (update_engine/libcurl_http_fetcher.cc)."""
_NO_REDIRECT = 304
_REPEATED = (307, 308)
"""The redirects that leave method and body as they are (RFC 9110, sections 15.4.8 and 15.4.9)."""

MAX_AGE = 9
"""Most digits of an Age that counts."""
MAX_REFUSALS = 16
REFUSAL_KEPT = 86400.0
"""Seconds for which a refused redirect is reported after the last request."""
_UNTIMELY = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED (openssl/x509_vfy.h)."""


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How to reach upstream servers.

    Attributes:
        allowed: The origins for requests.
        connect_timeout: Seconds for name look-up, connecting and TLS together.
        head_timeout: Seconds until the head of a stream's answer, connecting and redirects included.
        stall_timeout: Seconds without a byte after which a body counts as stalled.
        ca_file: PEM file of authorities trusted besides the system's.
        proxy: URL of an HTTP proxy for all requests; None: the environment's, see `config.environment`.
    """

    allowed: AllowList
    connect_timeout: float = 30.0
    head_timeout: float = 90.0
    stall_timeout: float = 5.0
    ca_file: Path | None = None
    proxy: str | None = None


def settings_of(up: UpstreamConfig) -> HttpSettings:
    """The settings of a config. Raises ValueError: an origin of its allow-list cannot be read."""
    return HttpSettings(
        allowed=AllowList(*up.allowed),
        connect_timeout=up.connect_timeout,
        stall_timeout=up.stall_timeout,
        ca_file=up.ca_file,
        proxy=up.proxy,
    )


class Refusals:
    """The current refused redirects, for the operator, who may allow them. The last response of each file counts."""

    def __init__(self) -> None:
        self._noted: dict[str, tuple[float, str]] = {}

    def note(self, url: str, reason: str) -> None:
        """Record that a file redirects to an origin that is not allowed."""
        self._noted.pop(url, None)
        self._noted[url] = time.monotonic() + REFUSAL_KEPT, reason
        if len(self._noted) > MAX_REFUSALS:
            del self._noted[next(iter(self._noted))]

    def answered(self, url: str) -> None:
        """Record that a file does not redirect any more."""
        self._noted.pop(url, None)

    def reasons(self) -> list[str]:
        """The reasons for people, each once."""
        now = time.monotonic()
        return list(dict.fromkeys(reason for until, reason in self._noted.values() if until > now))


class Requests:
    """Sends requests, and gives the heads of the responses.

    Args:
        settings: how to reach upstream servers.
        clock: gets each Date; explains certificates that are not valid now.

    Attributes:
        refusals: the refused redirects.

    Raises:
        ValueError: `ca_file` cannot be read or holds no certificate.
    """

    def __init__(self, settings: HttpSettings, clock: Clock) -> None:
        self.refusals = Refusals()
        self._settings = settings
        self._clock = clock
        self._tls = _tls(settings.ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the idle connections. Requests can still be sent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        session: aiohttp.ClientSession | None = None,
    ) -> aiohttp.ClientResponse:
        """The head of the response after redirects within the allow-list; the caller closes it."""
        target = self._settings.allowed.check(url)
        for _ in range(MAX_REDIRECTS + 1):
            with self.translated(str(target), "no answer"):
                response = await (session or self._kept_session()).request(
                    method,
                    target,
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    proxy=self._proxy(target),
                )
            self._note_time(response.headers)
            location = response.headers.get("Location", "")
            if not 300 <= response.status < 400 or response.status == _NO_REDIRECT:
                self.refusals.answered(url)
                return response
            response.close()
            if body is not None and response.status not in _REPEATED:
                raise BadAnswer(
                    f"the server answered a POST with the redirect {response.status}, which drops"
                    " what was posted; configure the address that it leads to",
                    str(target),
                )
            target = self._redirected(url, target, location)
        raise BadAnswer(f"more than {MAX_REDIRECTS} redirects", url)

    def _note_time(self, headers: Mapping[str, str]) -> None:
        """Pass the Date, plus the Age in caches, to the clock (RFC 9111, section 5.1)."""
        date, age = seconds(headers.get("Date")), headers.get("Age", "0")
        if date is not None and age.isascii() and age.isdecimal() and len(age) <= MAX_AGE:
            self._clock.record_upstream_date(date + int(age))

    def translated(self, url: str, silence: str) -> AbstractContextManager[None]:
        """See `translated`."""
        return translated(url, silence, self._clock.trouble)

    def _redirected(self, url: str, source: URL, location: str) -> URL:
        try:
            if not location:
                raise ValueError("it has no Location")
            target = source.join(as_it_came(location))
        except ValueError as error:
            raise BadAnswer(f"a redirect to nowhere: {error}", str(source)) from error
        if source.scheme == "https" and target.scheme == "http":
            raise Forbidden(f"{source.origin()} redirects from https to http", str(target))
        try:
            return self._settings.allowed.check(target)
        except Forbidden as error:
            reason = f"{source.origin()} redirects, but {error.reason}"
            self.refusals.note(url, reason)
            raise Forbidden(reason, str(target)) from error

    def _proxy(self, target: URL) -> str | None:
        if self._settings.proxy is not None:
            return self._settings.proxy
        name, proxy = proxy_of(str(target.origin()), os.environ) or ("", None)
        if proxy is not None and not proxy.startswith(("http://", "https://")):
            raise Unreachable(f"{name} is not the URL of an HTTP proxy", str(target))
        return proxy

    def _kept_session(self) -> aiohttp.ClientSession:
        """The session with reused connections, created at first use because it belongs to the running loop."""
        if self._session is None:
            self._session = self.new_session(reuse=True)
        return self._session

    def new_session(self, *, reuse: bool) -> aiohttp.ClientSession:
        """A new session, which the caller closes."""
        return aiohttp.ClientSession(
            # The callers limit the number of connections.
            connector=LenientConnector(limit=0, ssl=self._tls, force_close=not reuse),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._settings.connect_timeout),
            auto_decompress=False,
            max_line_size=MAX_HEAD,
            max_field_size=MAX_HEAD,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "Accept-Encoding": "identity",
                "User-Agent": f"omaha-mirror/{__version__}",
            },
        )


def untimely(error: Exception) -> bool:
    """Whether a connection failed because a certificate is not valid now, by this machine's clock."""
    if not isinstance(error, aiohttp.ClientConnectorCertificateError):
        return False
    return getattr(error.certificate_error, "verify_code", 0) in _UNTIMELY


@contextmanager
def translated(url: str, silence: str, trouble: Callable[[], str]) -> Iterator[None]:
    """Convert aiohttp's exceptions; `silence` is the message of a time-out, `trouble` gives the clock's fault."""
    try:
        yield
    except aiohttp.ClientHttpProxyError as error:
        raise Unreachable(f"the proxy refused with status {error.status}", url) from error
    except aiohttp.ConnectionTimeoutError as error:
        raise Unreachable("no connection within the connect time-out", url) from error
    except (aiohttp.ClientConnectorError, aiohttp.ClientSSLError) as error:
        why = trouble() if untimely(error) else ""
        words = f"{why}: {SET_CLOCK}; " if why else ""
        raise Unreachable(f"{words}no connection: {error}", url) from error
    except TimeoutError as error:
        raise Stalled(silence, url) from error
    except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
        raise BadAnswer(f"not a valid HTTP response: {error}", url) from error
    except (aiohttp.ClientError, OSError) as error:
        raise Dropped(
            f"the connection was lost: {str(error) or type(error).__name__}", url
        ) from error


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"ca_file {ca_file}: no usable certificate: {error}") from error
    return context
