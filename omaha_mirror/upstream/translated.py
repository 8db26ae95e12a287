"""What aiohttp raises, turned into what happened."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aiohttp

from omaha_mirror.aio.clock import SET_IT
from omaha_mirror.upstream.errors import BadAnswer, Dropped, Stalled, Unreachable

_UNTIMELY = (9, 10)
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED (openssl/x509_vfy.h)."""


def untimely(error: Exception) -> bool:
    """Whether a connection failed because a certificate is not valid yet, or not any more, by this machine's clock."""
    if not isinstance(error, aiohttp.ClientConnectorCertificateError):
        return False
    return getattr(error.certificate_error, "verify_code", 0) in _UNTIMELY


@contextmanager
def translated(url: str, silence: str, trouble: Callable[[], str]) -> Iterator[None]:
    """Turn what aiohttp raises into what happened; `silence` words a time-out, `trouble` what is wrong with the clock."""
    try:
        yield
    except aiohttp.ClientHttpProxyError as error:
        raise Unreachable(f"the proxy refused with status {error.status}", url) from error
    except aiohttp.ConnectionTimeoutError as error:
        raise Unreachable("no connection within the connect time-out", url) from error
    except (aiohttp.ClientConnectorError, aiohttp.ClientSSLError) as error:
        why = trouble() if untimely(error) else ""
        words = f"{why}: {SET_IT}; " if why else ""
        raise Unreachable(f"{words}no connection: {error}", url) from error
    except TimeoutError as error:
        raise Stalled(silence, url) from error
    except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
        raise BadAnswer(f"not an HTTP answer that can be read: {error}", url) from error
    except (aiohttp.ClientError, OSError) as error:
        raise Dropped(f"the connection died: {str(error) or type(error).__name__}", url) from error
