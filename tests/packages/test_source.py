"""An upstream file as the cache's source: errors by what they mean there, and generations that survive JSON."""

import json
import random
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from omaha_mirror.cache.errors import (
    CacheError,
    SourceChanged,
    SourceFailed,
    SourceGone,
    SourceRefused,
)
from omaha_mirror.cache.source import Validator
from omaha_mirror.packages.source import UpstreamSource
from omaha_mirror.upstream.allowed import AllowList
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.requests import HttpSettings
from tests.support.upstream import (
    Drop,
    Encoding,
    Fault,
    Fin,
    NoLength,
    NoRange,
    NoValidator,
    Redirect,
    Status,
    Upstream,
    WrongLength,
)

PATH = "/amd64-usr/3815.2.1/update.gz"
BODY = bytes(range(256)) * 1000
SIZE = len(BODY)


@pytest.fixture
async def fetcher(upstream: Upstream) -> AsyncIterator[HttpFetcher]:
    upstream.put(PATH, BODY)
    fetcher = HttpFetcher(HttpSettings(AllowList(upstream.origin), stall_timeout=0.2))
    yield fetcher
    await fetcher.close()


@pytest.fixture
def source(upstream: Upstream, fetcher: HttpFetcher) -> UpstreamSource:
    return UpstreamSource(fetcher, upstream.url(PATH), SIZE, random.Random(1))


async def read(
    source: UpstreamSource, start: int = 0, stop: int = SIZE, validator: Validator | None = None
) -> tuple[bytes, Validator]:
    async with source.open(start, stop, validator) as body, aclosing(body.chunks()) as chunks:
        assert body.start == start
        return b"".join([chunk async for chunk in chunks]), body.validator


@pytest.mark.parametrize("validator", [{}, {"etag": 'W/"1"'}, {"odd": "x"}])
async def test_without_a_digest_parts_are_joined_by_a_strong_validator_only(
    upstream: Upstream, fetcher: HttpFetcher, validator: Validator
) -> None:
    unjudged = UpstreamSource(fetcher, upstream.url(PATH), SIZE, random.Random(1), known=False)
    with pytest.raises(SourceChanged, match="no digest is known"):
        await read(unjudged, 1000, SIZE, validator)
    assert upstream.log == []
    head, strong = await read(unjudged, 0, 1000)
    rest, _ = await read(unjudged, 1000, SIZE, strong)
    assert head + rest == BODY


@pytest.mark.parametrize(
    ("start", "stop", "asked"),
    [
        (0, SIZE, None),
        (0, 1000, "bytes=0-999"),
        (1000, SIZE, "bytes=1000-"),
        (1000, 2000, "bytes=1000-1999"),
    ],
)
async def test_the_bytes_that_were_asked_for_come(
    upstream: Upstream, source: UpstreamSource, start: int, stop: int, asked: str | None
) -> None:
    content, _ = await read(source, start, stop)
    assert content == BODY[start:stop]
    assert [request.range for request in upstream.log] == [asked]


async def test_the_name_is_the_address(upstream: Upstream, source: UpstreamSource) -> None:
    assert source.name == upstream.url(PATH)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Status(404), SourceGone),
        (Status(410), SourceGone),
        (Redirect("http://elsewhere.example/"), SourceRefused),
        (WrongLength(by=1), SourceChanged),
        (Status(403), SourceFailed),
        (Status(503), SourceFailed),
        (Drop(at=1000), SourceFailed),
        (Fin(at=1000), SourceFailed),
        (NoLength(surplus=b"more"), SourceFailed),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_each_trouble_has_its_meaning(
    upstream: Upstream, source: UpstreamSource, fault: Fault, expected: type[CacheError]
) -> None:
    upstream.fault(PATH, fault)
    with pytest.raises(CacheError) as caught:
        await read(source)
    assert type(caught.value) is expected
    assert "://" in str(caught.value)


async def test_a_label_counts_where_no_digest_does(
    upstream: Upstream, fetcher: HttpFetcher, source: UpstreamSource
) -> None:
    upstream.fault(PATH, Encoding())
    assert (await read(source))[0] == BODY
    with pytest.raises(SourceFailed, match="coded as 'gzip'"):
        await read(UpstreamSource(fetcher, upstream.url(PATH), SIZE, random.Random(1), known=False))


async def test_a_refused_connection_is_passing_trouble(
    upstream: Upstream, source: UpstreamSource
) -> None:
    await upstream.refuse()
    with pytest.raises(SourceFailed, match="no connection"):
        await read(source)


async def test_a_stall_is_passing_trouble_and_what_came_before_it_is_given(
    upstream: Upstream, source: UpstreamSource
) -> None:
    upstream.hold(PATH, at=1000)
    async with source.open(0, SIZE, None) as body, aclosing(body.chunks()) as chunks:
        assert await anext(chunks) == BODY[:1000]
        with pytest.raises(SourceFailed, match="no byte for"):
            await anext(chunks)


async def test_how_long_to_wait_is_told_and_honoured(
    upstream: Upstream, source: UpstreamSource
) -> None:
    upstream.fault(PATH, Status(503, retry_after="17"))
    with pytest.raises(SourceFailed) as caught:
        await read(source)
    assert caught.value.retry_after == 17.0
    assert source.pause(1, caught.value) == 17.0
    assert 0 < source.pause(1, SourceFailed("dropped")) < 17.0


async def test_a_generation_survives_json_and_is_carried_on(
    upstream: Upstream, source: UpstreamSource
) -> None:
    _, validator = await read(source, 0, 1000)
    kept = json.loads(json.dumps(dict(validator)))
    content, again = await read(source, 1000, SIZE, kept)
    assert content == BODY[1000:]
    assert again["etag"] == validator["etag"]
    assert upstream.log[-1].headers["if-range"] == validator["etag"]


@pytest.mark.parametrize("faults", [[], [NoRange()]], ids=["ranges", "no ranges"])
async def test_another_generation_of_the_same_size_is_noticed(
    upstream: Upstream, source: UpstreamSource, faults: list[Fault]
) -> None:
    _, validator = await read(source, 0, 1000)
    upstream.put(PATH, BODY[::-1])
    for fault in faults:
        upstream.fault(PATH, fault)
    with pytest.raises(SourceChanged):
        await read(source, 1000, SIZE, validator)


async def test_a_server_without_validators_has_only_a_date(
    upstream: Upstream, source: UpstreamSource
) -> None:
    upstream.fault(PATH, NoValidator())
    content, validator = await read(source, 0, 1000)
    assert set(validator) == {"date"}
    assert content == BODY[:1000]
    content, _ = await read(source, 1000, SIZE, validator)
    assert content == BODY[1000:]


async def test_leaving_early_ends_the_connection(
    upstream: Upstream, source: UpstreamSource
) -> None:
    gate = upstream.hold(PATH, at=SIZE // 2)
    async with source.open(0, SIZE, None) as body, aclosing(body.chunks()) as chunks:
        await anext(chunks)
        await gate.reached()
    await upstream.until(lambda: upstream.log[0].done)
    assert not upstream.log[0].whole
