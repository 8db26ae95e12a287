"""Rules for all tests: nothing is dialled outside loopback, and CI skips none. And the scripted upstream as a fixture."""

import ipaddress
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from typing import cast

import pytest
import structlog
from hypothesis import settings
from structlog.testing import capture_logs

from tests.support.logs import Logs
from tests.support.nebraska import Nebraska
from tests.support.upstream import Upstream

settings.register_profile("no-clock", deadline=None)
settings.load_profile("no-clock")


class DialledOutsideError(BaseException):
    """Not an Exception, so that no code under test can take it for a failed connection."""


def _is_loopback(host: object) -> bool:
    if host in (None, "", "localhost", b"localhost"):
        return True
    text = host.decode() if isinstance(host, bytes) else str(host)
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def _refuse_outside(event: str, args: tuple[object, ...]) -> None:
    """An audit hook: look-ups, connects and datagrams go to loopback (or a UNIX socket) only."""
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    if not _is_loopback(host) and host not in ("0.0.0.0", "::"):
        raise DialledOutsideError(f"a test tried to reach {host!r}")


sys.addaudithook(_refuse_outside)


@pytest.fixture(autouse=True)
def _no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def _logs_go_nowhere_else() -> Iterator[None]:
    """Undo what a test set up for logging, so that the next one's lines stay out of pytest's output."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture
def logs() -> Iterator[Logs]:
    """What is logged during the test."""
    with capture_logs([structlog.processors.format_exc_info]) as lines:
        yield cast(Logs, lines)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """The scripted upstream, listening."""
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
def nebraska(upstream: Upstream) -> Nebraska:
    """On the scripted upstream: `stable` leads through two floors to its target."""
    from tests.e2e.site import three_steps  # most tests need no site

    nebraska = Nebraska(upstream)
    three_steps(nebraska)
    return nebraska


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failed one: what it needs is installed there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
