"""TLS: whom the fetcher trusts, and that it never steps down."""

import ssl
from pathlib import Path

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpServer

from omaha_mirror.aio.clock import DAY
from omaha_mirror.upstream.allowed import AllowList
from omaha_mirror.upstream.errors import Forbidden, Unreachable
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.requests import HttpSettings
from tests.support.clock import SetClock
from tests.support.upstream import Upstream
from tests.upstream.conftest import CERTIFICATES
from tests.web.secure import make_certificate


async def test_an_unknown_authority_is_unreachable(secure: str) -> None:
    fetcher = HttpFetcher(HttpSettings(AllowList(secure)))
    with pytest.raises(Unreachable, match="certificate"):
        await fetcher.small(f"{secure}/x", limit=10, deadline=10)
    await fetcher.close()


async def test_the_authority_of_ca_file_is_trusted(secure: str) -> None:
    ca_file = CERTIFICATES / "authority.pem"
    fetcher = HttpFetcher(HttpSettings(AllowList(secure), ca_file=ca_file))
    assert await fetcher.small(f"{secure}/x", limit=10, deadline=10) == b"hello"
    await fetcher.close()


async def test_a_redirect_from_https_to_http_is_refused(secure: str, upstream: Upstream) -> None:
    upstream.put("/x", b"plain")
    ca_file = CERTIFICATES / "authority.pem"
    fetcher = HttpFetcher(HttpSettings(AllowList(secure, upstream.origin), ca_file=ca_file))
    with pytest.raises(Forbidden, match="from https to http"):
        await fetcher.small(f"{secure}/down", limit=10, deadline=10)
    assert upstream.log == []
    await fetcher.close()


@pytest.mark.parametrize(("since", "until"), [(-30, -1), (1, 30)], ids=["over", "not yet"])
@pytest.mark.parametrize("ahead", [9 * 365 * DAY, -56 * 365 * DAY])
async def test_a_certificate_that_is_not_valid_now_says_that_the_clock_may_be_wrong(
    tmp_path: Path, aiohttp_server: AiohttpServer, since: int, until: int, ahead: float
) -> None:
    path = tmp_path / "mine.pem"
    make_certificate(path, days=until, since=since)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = await aiohttp_server(web.Application(), ssl=context)
    origin = f"https://localhost:{server.port}"
    settings = HttpSettings(AllowList(origin), ca_file=path)
    for clock, wrong in ((SetClock(ahead), True), (SetClock(synchronised=True), False)):
        fetcher = HttpFetcher(settings, clock)
        with pytest.raises(Unreachable, match="certificate") as failed:
            await fetcher.small(f"{origin}/x", limit=10, deadline=10)
        assert ("this machine's clock says" in str(failed.value)) is wrong
        assert ("timedatectl" in str(failed.value)) is wrong
        await fetcher.close()


async def test_another_fault_of_a_certificate_is_not_the_clocks(secure: str) -> None:
    fetcher = HttpFetcher(HttpSettings(AllowList(secure)), SetClock(-56 * 365 * DAY))
    with pytest.raises(Unreachable, match="certificate") as failed:
        await fetcher.small(f"{secure}/x", limit=10, deadline=10)
    assert "clock" not in str(failed.value)
    await fetcher.close()


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_ca_file_without_a_certificate_is_named(tmp_path: Path, content: str | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    with pytest.raises(ValueError, match=r"ca\.pem"):
        HttpFetcher(HttpSettings(AllowList(), ca_file=ca_file))
