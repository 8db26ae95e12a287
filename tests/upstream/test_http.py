"""The HTTP fetcher in conversation with an upstream that misbehaves."""

import asyncio
import socket
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path

import pytest

from omaha_mirror import __version__
from omaha_mirror.upstream.allowed import AllowList
from omaha_mirror.upstream.errors import (
    BadAnswer,
    BadStatus,
    Changed,
    Dropped,
    Forbidden,
    Gone,
    Stalled,
    TooLarge,
    Unreachable,
    UpstreamError,
)
from omaha_mirror.upstream.fetcher import Body, Fetcher, Validator
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.requests import HttpSettings
from tests.support.clock import SetClock
from tests.support.upstream import (
    Change,
    Drip,
    Drop,
    Encoding,
    Fault,
    Fin,
    LongRange,
    NoLength,
    NoRange,
    NoValidator,
    RawHead,
    Redirect,
    Status,
    Upstream,
    WrongLength,
    WrongRange,
)

PATH = "/amd64-usr/1.2.3/update.gz"
BODY = bytes(range(251)) * 1000
SIZE = len(BODY)
SOON = 0.25


def settings(*origins: str, **changes: float) -> HttpSettings:
    return HttpSettings(AllowList(*origins), **{"stall_timeout": 10.0, **changes})  # type: ignore[arg-type]


@pytest.fixture
async def fetcher(upstream: Upstream) -> AsyncIterator[HttpFetcher]:
    upstream.put(PATH, BODY, etag='"one"')
    fetcher = HttpFetcher(settings(upstream.origin))
    yield fetcher
    await fetcher.close()


@pytest.fixture
async def hasty(upstream: Upstream) -> AsyncIterator[HttpFetcher]:
    """A fetcher that soon takes silence in a body for a stall."""
    upstream.put(PATH, BODY)
    fetcher = HttpFetcher(settings(upstream.origin, stall_timeout=SOON))
    yield fetcher
    await fetcher.close()


async def rest(body: Body) -> bytes:
    return b"".join([chunk async for chunk in body.chunks()])


async def read_until(body: Body, into: bytearray) -> UpstreamError:
    """Read on until it fails; all that came before stands in `into`."""
    try:
        async for chunk in body.chunks():
            into += chunk
    except UpstreamError as error:
        return error
    raise AssertionError("the body came to its end")


async def opening(fetcher: Fetcher, url: str, size: int | None = None) -> None:
    async with fetcher.stream(url, size=size):
        pass


# What is asked, and what a good answer gives


async def test_a_fetch_may_take_as_long_as_something_comes(
    upstream: Upstream, fetcher: HttpFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, passed = asyncio.get_running_loop(), [0.0]
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + passed[0])
    gates = [upstream.hold(PATH, at=SIZE * step // 50) for step in range(1, 50)]

    async def let_time_pass() -> None:
        for gate in gates:
            await gate.reached()
            passed[0] += 8.0
            gate.open()

    async with fetcher.stream(upstream.url(PATH)) as body, asyncio.TaskGroup() as group:
        group.create_task(let_time_pass())
        assert await rest(body) == BODY
    assert passed[0] > 300


async def test_a_whole_file_comes_with_its_size_and_validator(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    async with fetcher.stream(upstream.url(PATH)) as body:
        assert (body.start, body.stop, body.size) == (0, SIZE, SIZE)
        assert body.validator.strong is not None
        assert await rest(body) == BODY
    assert upstream.requests(PATH)[0].whole


async def test_a_part_comes_exactly(upstream: Upstream, fetcher: HttpFetcher) -> None:
    async with fetcher.stream(upstream.url(PATH), start=1000, stop=5000, size=SIZE) as body:
        assert (body.start, body.stop, body.size) == (1000, 5000, SIZE)
        assert await rest(body) == BODY[1000:5000]


async def test_a_request_names_us_and_asks_for_plain_bytes_without_credentials(
    upstream: Upstream, fetcher: HttpFetcher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    await fetcher.small(upstream.url(f"{PATH}.sha256"), limit=1000, deadline=10)
    headers = upstream.log[0].headers
    assert headers["user-agent"] == f"omaha-mirror/{__version__}"
    assert headers["accept-encoding"] == "identity"
    assert "authorization" not in headers


async def test_head_tells_size_and_validator(upstream: Upstream, fetcher: HttpFetcher) -> None:
    head = await fetcher.head(upstream.url(PATH), deadline=10)
    assert (head.url, head.size) == (upstream.url(PATH), SIZE)
    assert head.validator.strong == '"one"'
    upstream.fault(PATH, NoLength())
    upstream.fault(PATH, NoRange())
    upstream.fault(PATH, NoValidator())
    head = await fetcher.head(upstream.url(PATH), deadline=10)
    assert (head.size, head.validator.strong) == (None, None)


async def test_it_can_be_used_again_after_close(upstream: Upstream, fetcher: HttpFetcher) -> None:
    for _ in range(2):
        await fetcher.head(upstream.url(PATH), deadline=10)
        await fetcher.close()


# Bodies that end or pause


@pytest.mark.parametrize("fault", [Drop(at=70_000, times=1), Fin(at=70_000, times=1)])
async def test_a_broken_answer_is_dropped_and_the_rest_fits_on(
    upstream: Upstream, fetcher: HttpFetcher, fault: Fault
) -> None:
    upstream.fault(PATH, fault)
    got = bytearray()
    async with fetcher.stream(upstream.url(PATH)) as body:
        assert isinstance(await read_until(body, got), Dropped)
        known = body.validator
    assert got == BODY[: len(got)]
    async with fetcher.stream(
        upstream.url(PATH), start=len(got), size=SIZE, validator=known
    ) as body:
        got += await rest(body)
    assert got == BODY
    assert upstream.requests(PATH)[1].headers["if-range"] == known.strong


async def test_a_stalled_body_can_be_read_on_over_the_same_connection(
    upstream: Upstream, hasty: HttpFetcher
) -> None:
    gate = upstream.hold(PATH, at=70_000)
    got = bytearray()
    async with hasty.stream(upstream.url(PATH)) as body:
        while len(got) < 70_000:
            assert isinstance(await read_until(body, got), Stalled)
        assert isinstance(await read_until(body, got), Stalled)
        assert got == BODY[:70_000]
        gate.open()
        got += await rest(body)
    assert got == BODY
    assert len(upstream.requests(PATH)) == 1


async def test_a_slow_reader_is_no_stall(upstream: Upstream, hasty: HttpFetcher) -> None:
    async with hasty.stream(upstream.url(PATH), start=SIZE - 50_000) as body:
        chunks = body.chunks()
        got = await anext(chunks)
        await asyncio.sleep(2 * SOON)
        assert got + b"".join([chunk async for chunk in chunks]) == BODY[-50_000:]


async def test_no_head_within_its_deadline_is_stalled_and_hangs_up(upstream: Upstream) -> None:
    upstream.put(PATH, BODY)
    upstream.hold(PATH)
    fetcher = HttpFetcher(settings(upstream.origin, head_timeout=SOON))
    with pytest.raises(Stalled, match="no response head"):
        await opening(fetcher, upstream.url(PATH))
    await upstream.until(lambda: all(request.done for request in upstream.log))
    await fetcher.close()


@pytest.mark.parametrize("at", [None, 10, 200_000])
async def test_cancelling_hangs_up_at_once(
    upstream: Upstream, fetcher: HttpFetcher, at: int | None
) -> None:
    gate = upstream.hold(PATH, at=at)

    async def fetch() -> None:
        async with fetcher.stream(upstream.url(PATH)) as body:
            await rest(body)

    fetching = asyncio.create_task(fetch())
    await gate.reached()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    await upstream.until(lambda: upstream.requests(PATH)[0].done)
    assert not upstream.requests(PATH)[0].whole


async def test_leaving_the_stream_early_hangs_up(upstream: Upstream, fetcher: HttpFetcher) -> None:
    upstream.hold(PATH, at=70_000)
    async with fetcher.stream(upstream.url(PATH)) as body:
        await anext(body.chunks())
    await upstream.until(lambda: upstream.requests(PATH)[0].done)


# Another generation, or none


async def test_a_file_replaced_between_two_parts_is_changed(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    upstream.fault(PATH, Change(at=1000, body=BODY[::-1], drop=True, times=1))
    got = bytearray()
    async with fetcher.stream(upstream.url(PATH)) as body:
        assert isinstance(await read_until(body, got), Dropped)
        known = body.validator
    with pytest.raises(Changed):
        async with fetcher.stream(upstream.url(PATH), start=len(got), validator=known):
            pass


async def test_a_server_without_ranges_is_read_from_its_beginning(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    upstream.fault(PATH, NoRange())
    known = (await fetcher.head(upstream.url(PATH), deadline=10)).validator
    for validator in (known, None):
        async with fetcher.stream(
            upstream.url(PATH), start=100_000, stop=100_100, validator=validator
        ) as body:
            assert body.start == 100_000
            assert await rest(body) == BODY[100_000:100_100]
    with pytest.raises(Changed):
        async with fetcher.stream(upstream.url(PATH), start=5, validator=Validator('"other"')):
            pass


async def test_an_absent_file_is_gone(upstream: Upstream, fetcher: HttpFetcher) -> None:
    with pytest.raises(Gone):
        await opening(fetcher, upstream.url("/nothing"))
    with pytest.raises(Gone):
        await fetcher.small(upstream.url("/nothing"), limit=10, deadline=10)
    with pytest.raises(Gone):
        await fetcher.head(upstream.url("/nothing"), deadline=10)


async def test_a_busy_server_says_when_to_come_back(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    upstream.fault(PATH, Status(503, retry_after="7"))
    with pytest.raises(BadStatus) as caught:
        await opening(fetcher, upstream.url(PATH))
    assert (caught.value.status, caught.value.retry_after) == (503, 7.0)


# Answers that break the rules


async def test_a_body_without_length_is_read_to_the_known_size(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    upstream.fault(PATH, NoLength())
    async with fetcher.stream(upstream.url(PATH), size=SIZE) as body:
        assert await rest(body) == BODY
    with pytest.raises(BadAnswer, match="how large"):
        await opening(fetcher, upstream.url(PATH))


async def test_more_than_the_known_size_is_too_large_and_none_of_it_is_delivered(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    upstream.fault(PATH, NoLength(surplus=b"!"))
    got = bytearray()
    async with fetcher.stream(upstream.url(PATH), size=SIZE) as body:
        assert isinstance(await read_until(body, got), TooLarge)
    assert got == BODY[: len(got)]


async def test_less_than_the_known_size_is_dropped(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    upstream.fault(PATH, NoLength())
    got = bytearray()
    async with fetcher.stream(upstream.url(PATH), size=SIZE + 1) as body:
        assert isinstance(await read_until(body, got), Dropped)
    assert got == BODY


@pytest.mark.parametrize("by", [-5, 5])
async def test_an_announced_length_other_than_the_known_size_is_changed(
    upstream: Upstream, fetcher: HttpFetcher, by: int
) -> None:
    upstream.fault(PATH, WrongLength(by=by))
    with pytest.raises(Changed):
        await opening(fetcher, upstream.url(PATH), size=SIZE)


async def test_another_range_than_asked_is_bad(upstream: Upstream, fetcher: HttpFetcher) -> None:
    upstream.fault(PATH, WrongRange(by=1))
    with pytest.raises(BadAnswer):
        async with fetcher.stream(upstream.url(PATH), start=1000):
            pass


async def test_a_longer_range_is_clipped(upstream: Upstream, fetcher: HttpFetcher) -> None:
    upstream.fault(PATH, LongRange(by=100_000))
    async with fetcher.stream(upstream.url(PATH), start=1000, stop=2000) as body:
        assert await rest(body) == BODY[1000:2000]


async def test_a_shorter_range_is_dropped_where_it_ends(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    upstream.fault(PATH, LongRange(by=-100))
    got = bytearray()
    async with fetcher.stream(upstream.url(PATH), start=1000, stop=2000) as body:
        assert isinstance(await read_until(body, got), Dropped)
    assert got == BODY[1000:1900]


async def test_a_coded_answer_is_bad(upstream: Upstream, fetcher: HttpFetcher) -> None:
    upstream.fault(PATH, Encoding())
    with pytest.raises(BadAnswer):
        await opening(fetcher, upstream.url(PATH))
    with pytest.raises(BadAnswer):
        await fetcher.head(upstream.url(PATH), deadline=10)
    with pytest.raises(BadAnswer):
        await fetcher.small(upstream.url(PATH), limit=SIZE, deadline=10)


async def test_what_is_not_http_is_bad() -> None:
    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(chatter, "127.0.0.1", 0) as server:
        origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        fetcher = HttpFetcher(settings(origin))
        with pytest.raises(BadAnswer):
            await opening(fetcher, f"{origin}/x")
        await fetcher.close()


async def test_a_server_that_hangs_up_without_an_answer_is_dropped(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    """The second time: aiohttp asks again once, as the connection may have been an old one."""
    upstream.hold(PATH)
    asking = asyncio.create_task(opening(fetcher, upstream.url(PATH)))
    await upstream.until(lambda: len(upstream.log) == 1)
    upstream.cut_all()
    await upstream.until(lambda: len(upstream.log) == 2)
    upstream.cut_all()
    with pytest.raises(Dropped):
        await asking


# Small files


async def test_a_small_file_has_a_limit(upstream: Upstream, fetcher: HttpFetcher) -> None:
    assert await fetcher.small(upstream.url(PATH), limit=SIZE, deadline=10) == BODY
    with pytest.raises(TooLarge):
        await fetcher.small(upstream.url(PATH), limit=SIZE - 1, deadline=10)


async def test_a_small_file_has_a_deadline_however_steadily_it_drips(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    upstream.fault(PATH, Drip(rate=1000))
    with pytest.raises(Stalled):
        await fetcher.small(upstream.url(PATH), limit=SIZE, deadline=SOON)
    await upstream.until(lambda: all(request.done for request in upstream.log))


async def test_a_small_file_cut_short_is_dropped(upstream: Upstream, fetcher: HttpFetcher) -> None:
    upstream.fault(PATH, Fin(at=10))
    with pytest.raises(Dropped):
        await fetcher.small(upstream.url(PATH), limit=SIZE, deadline=10)


async def test_an_answer_out_of_a_cache_tells_the_time_by_its_age(upstream: Upstream) -> None:
    clock = SetClock()
    date = formatdate(clock.right() - 7200, usegmt=True).encode()
    fetcher = HttpFetcher(settings(upstream.origin), clock)
    head = b"HTTP/1.1 200 OK\r\nDate: %s\r\nAge: 7200\r\n\r\n" % date
    upstream.put(PATH, b"x")
    upstream.fault(PATH, RawHead(head=head))
    await fetcher.small(upstream.url(PATH), limit=1, deadline=10.0)
    assert (clock.sure, clock.ahead_of_upstream) == (True, None)
    await fetcher.close()


# Servers that cannot be reached


async def test_a_refused_connection_is_unreachable(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    await upstream.refuse()
    with pytest.raises(Unreachable):
        await opening(fetcher, upstream.url(PATH))
    await upstream.listen()
    await opening(fetcher, upstream.url(PATH))


async def test_a_name_that_does_not_resolve_is_unreachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nowhere(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nowhere)
    fetcher = HttpFetcher(settings("http://nowhere.invalid"))
    with pytest.raises(Unreachable):
        await opening(fetcher, "http://nowhere.invalid/x")
    await fetcher.close()


async def test_a_connect_that_nobody_answers_is_unreachable() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        origin = f"http://127.0.0.1:{full.getsockname()[1]}"
        fetcher = HttpFetcher(settings(origin, connect_timeout=SOON))
        with pytest.raises(Unreachable, match="connect time-out"):
            await opening(fetcher, f"{origin}/x")
        await fetcher.close()


# Redirects


async def test_a_redirect_is_followed_with_the_same_range(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    upstream.fault("/old", Redirect(PATH))
    async with fetcher.stream(upstream.url("/old"), start=1000) as body:
        assert body.url == upstream.url(PATH)
        assert await rest(body) == BODY[1000:]


SIGNED = (
    "/cdn/f.gz?acl=%2Fa%2F%2A~hmac&sig=a%2Fb%3Ac%27%7Ed%40e",
    "/cdn/f.gz?X-Amz-Credential=AK%2F20250101%2Fus%2Fs3%2Faws4_request&X-Amz-Signature=ab",
    "/%7Euser/%2f%2F/a+b%20c%25/%C3%a4?q=1+2%2B3%20&x=%3a%3A;y=[1]&z=\"'<>{|}^`\\",
    "/x/..%2F/%2e%2E/f.gz?",
    "/f.gz?next=http://elsewhere.example/../x&a=@b:c",
)


@pytest.mark.parametrize("there", SIGNED)
@pytest.mark.parametrize("absolute", [False, True])
async def test_a_signed_address_is_asked_for_as_it_came(
    upstream: Upstream, fetcher: HttpFetcher, there: str, *, absolute: bool
) -> None:
    upstream.fault("/old", Redirect(upstream.url(there) if absolute else there))
    asked = there.removesuffix("?")
    upstream.put(asked, BODY, sidecar=False)
    async with fetcher.stream(upstream.url("/old"), start=1000) as body:
        assert await rest(body) == BODY[1000:]
    assert await fetcher.small(upstream.url(there), limit=SIZE, deadline=10) == BODY
    assert [request.path for request in upstream.log] == ["/old", asked, asked]


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        ("g%2Fh?x=%7E", "/a/b/g%2Fh?x=%7E"),
        ("?x=%2F", "/a/b/old?x=%2F"),
        ("../%7E", "/a/%7E"),
        ("/f g", "/f%20g"),
        ("/f g?a b=c d", "/f%20g?a+b=c+d"),
        ("/caf\xc3\xa9/\xe9\xff?q=\xb5#part", "/caf%C3%A9/%E9%FF?q=%B5"),
    ],
)
async def test_a_location_may_be_relative_and_hold_what_no_request_line_can(
    upstream: Upstream, fetcher: HttpFetcher, location: str, asked: str
) -> None:
    head = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n"
    upstream.fault("/a/b/old", RawHead(head=head % location.encode("latin-1")))
    upstream.put(asked, BODY, sidecar=False)
    assert await fetcher.small(upstream.url("/a/b/old"), limit=SIZE, deadline=10) == BODY


async def test_a_location_adds_no_line_to_a_request(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    upstream.put("/x%0D%0AX-Evil:%201", BODY, sidecar=False)
    await fetcher.small(upstream.url("/x\r\nX-Evil: 1"), limit=SIZE, deadline=10)
    assert "x-evil" not in upstream.log[0].headers


async def test_a_signed_address_goes_through_a_proxy_as_it_came(upstream: Upstream) -> None:
    url = f"http://packages.invalid{SIGNED[0]}"
    upstream.put(url, BODY, sidecar=False)
    allowed = AllowList("http://packages.invalid")
    through = HttpFetcher(HttpSettings(allowed, proxy=upstream.origin))
    assert await through.small(url, limit=SIZE, deadline=10) == BODY
    await through.close()


async def test_a_refused_redirect_is_noted_until_it_is_healed(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    upstream.fault(PATH, Redirect("https://cdn.example/f.gz?secret=1"))
    for _ in range(2):
        with pytest.raises(Forbidden):
            await opening(fetcher, upstream.url(PATH))
    [reason] = fetcher.refusals.reasons()
    assert reason.startswith(f"{upstream.origin} redirects, but https://cdn.example is not")
    assert "upstream.allowed_hosts" in reason
    assert "secret" not in reason
    upstream.heal(PATH)
    await opening(fetcher, upstream.url(PATH))
    assert fetcher.refusals.reasons() == []


async def test_a_redirect_off_the_list_is_never_dialled(
    upstream: Upstream, fetcher: HttpFetcher
) -> None:
    async with Upstream() as other:
        other.put(PATH, BODY)
        upstream.fault(PATH, Redirect(other.url(PATH)))
        with pytest.raises(Forbidden):
            await opening(fetcher, upstream.url(PATH))
        assert other.log == []


async def test_an_address_off_the_list_is_never_dialled(fetcher: HttpFetcher) -> None:
    async with Upstream() as other:
        with pytest.raises(Forbidden):
            await opening(fetcher, other.url(PATH))
        assert other.log == []


@pytest.mark.parametrize("location", [PATH, "", "http://[", "http://127.0.0.1:99999/"])
async def test_a_redirect_that_leads_nowhere_is_bad(
    upstream: Upstream, fetcher: HttpFetcher, location: str
) -> None:
    upstream.fault(PATH, Redirect(location))
    with pytest.raises(BadAnswer):
        await opening(fetcher, upstream.url(PATH))
    assert len(upstream.log) <= 11


# Proxies


async def test_a_proxy_is_asked_with_the_whole_address_and_its_own_credentials(
    upstream: Upstream,
) -> None:
    url = "http://packages.invalid/x"
    upstream.put(url, b"by way of the proxy")
    proxy = upstream.origin.replace("//", "//me:word@")
    through = HttpFetcher(HttpSettings(AllowList("http://packages.invalid"), proxy=proxy))
    assert await through.small(url, limit=100, deadline=10) == b"by way of the proxy"
    assert upstream.log[0].headers["proxy-authorization"].startswith("Basic ")
    assert "authorization" not in upstream.log[0].headers
    await through.close()


async def test_the_environment_names_a_proxy_and_its_exceptions(
    upstream: Upstream, fetcher: HttpFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = HttpFetcher(settings("http://packages.invalid", upstream.origin))
    upstream.put("http://packages.invalid/x", b"by way of the proxy")
    monkeypatch.setenv("http_proxy", upstream.origin.removeprefix("http://"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert await through.small("http://packages.invalid/x", limit=100, deadline=10)
    assert await through.small(upstream.url(PATH), limit=SIZE, deadline=10) == BODY
    assert [request.path for request in upstream.log] == ["http://packages.invalid/x", PATH]
    await through.close()


async def test_all_proxy_stands_in_and_a_proxy_that_is_none_for_http_is_never_passed_by(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = HttpFetcher(settings("http://packages.invalid", upstream.origin))
    upstream.put("http://packages.invalid/x", b"by way of the proxy")
    monkeypatch.setenv("all_proxy", upstream.origin)
    assert await through.small("http://packages.invalid/x", limit=100, deadline=10)
    monkeypatch.setenv("all_proxy", upstream.origin.replace("http://", "socks5://me:secret@"))
    with pytest.raises(Unreachable, match="all_proxy is not the URL of an HTTP proxy") as caught:
        await through.small(upstream.url("/x"), limit=100, deadline=10)
    assert "secret" not in str(caught.value)
    assert [request.path for request in upstream.log] == ["http://packages.invalid/x"]
    monkeypatch.setenv("no_proxy", "127.0.0.0/8")
    upstream.put("/x", b"without it")
    assert await through.small(upstream.url("/x"), limit=100, deadline=10) == b"without it"
    await through.close()


async def test_a_proxy_that_refuses_makes_upstream_unreachable(upstream: Upstream) -> None:
    through = HttpFetcher(
        HttpSettings(AllowList("https://packages.invalid"), proxy=upstream.origin)
    )
    with pytest.raises(Unreachable, match="proxy refused with status 404"):
        await opening(through, "https://packages.invalid/x")
    assert upstream.log[0].method == "CONNECT"
    await through.close()
