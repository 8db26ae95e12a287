"""Posting XML through the HTTP fetcher, in conversation with an upstream that misbehaves."""

import asyncio
from pathlib import Path

import pytest

from omaha_mirror.upstream.allowed import AllowList
from omaha_mirror.upstream.errors import (
    BadAnswer,
    BadStatus,
    Dropped,
    Forbidden,
    Gone,
    Stalled,
    TooLarge,
    Unreachable,
    UpstreamError,
)
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.requests import MAX_REDIRECTS, HttpSettings
from tests.support.upstream import (
    Drip,
    Drop,
    Encoding,
    Fault,
    Fin,
    Hangup,
    NoLength,
    Redirect,
    Status,
    Upstream,
)

CERTIFICATES = Path(__file__).parent.parent / "data" / "tls"
PATH = "/v1/update/"
QUESTION = b"<request/>"
ANSWER = b"<response/>" * 1000


@pytest.fixture(autouse=True)
def answer(upstream: Upstream) -> None:
    upstream.put(PATH, ANSWER)


async def post(
    fetcher: HttpFetcher, url: str, *, limit: int = len(ANSWER), deadline: float = 10.0
) -> bytes:
    return await fetcher.post(url, QUESTION, limit=limit, deadline=deadline)


async def test_the_body_goes_out_as_xml_and_the_whole_answer_comes_back(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    assert await post(fetcher, upstream.url(PATH)) == ANSWER
    [request] = upstream.log
    assert (request.method, request.body) == ("POST", QUESTION)
    assert request.headers["content-type"] == "text/xml"
    assert request.headers["content-length"] == str(len(QUESTION))
    assert request.headers["accept-encoding"] == "identity"
    assert "expect" not in request.headers


async def test_an_answer_may_be_chunked(upstream: Upstream, fetcher: HttpFetcher) -> None:
    upstream.fault(PATH, NoLength())
    assert await post(fetcher, upstream.url(PATH)) == ANSWER


@pytest.mark.parametrize("code", [307, 308])
async def test_307_and_308_repeat_the_post(
    upstream: Upstream, fetcher: HttpFetcher, code: int
) -> None:
    upstream.fault("/old", Redirect(PATH, code))
    assert await post(fetcher, upstream.url("/old")) == ANSWER
    assert [(r.method, r.path, r.body) for r in upstream.log] == [
        ("POST", "/old", QUESTION),
        ("POST", PATH, QUESTION),
    ]


@pytest.mark.parametrize("code", [301, 302, 303])
async def test_a_redirect_that_drops_the_body_is_bad_and_not_followed(
    upstream: Upstream, fetcher: HttpFetcher, code: int
) -> None:
    upstream.fault("/old", Redirect(PATH, code))
    with pytest.raises(BadAnswer, match=f"{code}.*/old"):
        await post(fetcher, upstream.url("/old"))
    assert len(upstream.log) == 1


async def test_a_circle_of_redirects_comes_to_an_end(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    upstream.fault(PATH, Redirect(PATH, 307))
    with pytest.raises(BadAnswer, match="redirects"):
        await post(fetcher, upstream.url(PATH))
    assert len(upstream.log) == MAX_REDIRECTS + 1


async def test_nothing_is_posted_off_the_list(upstream: Upstream, fetcher: HttpFetcher) -> None:
    async with Upstream() as other:
        other.put(PATH, ANSWER)
        upstream.fault(PATH, Redirect(other.url(PATH), 307))
        for url in (upstream.url(PATH), other.url(PATH)):
            with pytest.raises(Forbidden):
                await post(fetcher, url)
        assert other.log == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Status(503), BadStatus),
        (Status(400), BadStatus),
        (Status(201), BadStatus),
        (Status(404), Gone),
        (Encoding("gzip"), BadAnswer),
        (Fin(at=10), Dropped),
        (Drop(at=10), Dropped),
        (Hangup(), Dropped),
    ],
    ids=repr,
)
async def test_what_is_no_whole_plain_200_is_an_error_and_is_not_asked_again(
    upstream: Upstream, fetcher: HttpFetcher, fault: Fault, error: type[UpstreamError]
) -> None:
    upstream.fault(PATH, fault)
    with pytest.raises(error):
        await post(fetcher, upstream.url(PATH))
    assert len(upstream.log) == 1


async def test_an_answer_has_a_limit(upstream: Upstream, fetcher: HttpFetcher) -> None:
    with pytest.raises(TooLarge, match=f"{len(ANSWER) - 1} bytes"):
        await post(fetcher, upstream.url(PATH), limit=len(ANSWER) - 1)


async def test_30_mb_are_refused_without_being_fetched(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    upstream.put(PATH, bytes(30_000_000))
    with pytest.raises(TooLarge):
        await post(fetcher, upstream.url(PATH), limit=1 << 20)
    await upstream.until(lambda: upstream.log[0].done)
    assert upstream.bytes_sent(PATH) < 10_000_000


async def test_an_answer_has_a_deadline_however_steadily_it_drips(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    upstream.fault(PATH, Drip(rate=1000))
    with pytest.raises(Stalled, match=r"within 0\.25 s"):
        await post(fetcher, upstream.url(PATH), deadline=0.25)
    await upstream.until(lambda: upstream.log[0].done)


async def test_cancelling_hangs_up_at_once(upstream: Upstream, fetcher: HttpFetcher) -> None:
    gate = upstream.hold(PATH, at=100)
    task = asyncio.create_task(post(fetcher, upstream.url(PATH)))
    await gate.reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.until(lambda: upstream.log[0].done)
    assert not upstream.log[0].whole


async def test_a_refused_connection_is_unreachable(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    await upstream.refuse()
    with pytest.raises(Unreachable):
        await post(fetcher, upstream.url(PATH))
    await upstream.listen()
    assert await post(fetcher, upstream.url(PATH)) == ANSWER


async def test_a_kept_connection_that_dies_just_now_is_no_matter(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    for count in range(1, 4):
        assert await fetcher.small(upstream.url(PATH), limit=len(ANSWER), deadline=10) == ANSWER
        upstream.cut_all()
        assert await post(fetcher, upstream.url(PATH)) == ANSWER
        assert len(upstream.requests(PATH, "POST")) == count


async def test_a_post_goes_by_way_of_the_proxy(upstream: Upstream) -> None:
    url = "http://update.invalid/v1/update/"
    upstream.put(url, ANSWER)
    through = HttpFetcher(HttpSettings(AllowList("http://update.invalid"), proxy=upstream.origin))
    assert await post(through, url) == ANSWER
    [request] = upstream.log
    assert (request.path, request.body) == (url, QUESTION)
    await through.close()


async def test_a_post_trusts_the_authority_of_ca_file_and_no_step_down_to_http(
    upstream: Upstream, secure: str
) -> None:
    allowed = AllowList(secure, upstream.origin)
    stranger = HttpFetcher(HttpSettings(allowed))
    with pytest.raises(Unreachable, match="certificate"):
        await post(stranger, f"{secure}/x")
    fetcher = HttpFetcher(HttpSettings(allowed, ca_file=CERTIFICATES / "authority.pem"))
    assert await post(fetcher, f"{secure}/x") == b"hello"
    with pytest.raises(Forbidden, match="from https to http"):
        await post(fetcher, f"{secure}/down")
    assert upstream.log == []
