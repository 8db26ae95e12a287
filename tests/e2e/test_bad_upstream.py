"""Whatever an upstream answers: no machine is offered what it would choke on, and nothing is fetched for it."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from omaha_mirror.catalog import Reason
from omaha_mirror.omaha import Request, serialise_request
from tests.e2e.site import TARGET, Box, body, channel, count, following
from tests.support.logs import Logs
from tests.support.mirror import PAYLOAD, Mirror, Site
from tests.support.nebraska import PATH, Nebraska
from tests.support.talk import Talk, request
from tests.support.upstream import Upstream

AZURE = "oem-azure.gz"
BOMB = b"""<?xml version="1.0"?>
<!DOCTYPE response [<!ENTITY a "aaaaaaaaaa">%s]>
<response protocol="3.0"><app appid="&z9;"/></response>
""" % b"".join(b'<!ENTITY z%d "%s">' % (n, b"&z%d;" % (n - 1) * 9) for n in range(1, 10))

Spoil = Callable[[bytes], bytes]


def swap(pattern: str, text: str) -> Spoil:
    """Put something else in an answer's place that has it."""

    def spoil(answer: bytes) -> bytes:
        spoilt, count = re.subn(pattern.encode(), text.encode(), answer)
        assert count, answer
        return spoilt

    return spoil


BAD: dict[str, Spoil] = {
    "html": lambda _: b"<!DOCTYPE html><html><body>Please log in</body></html>",
    "empty": lambda _: b"",
    "truncated": lambda answer: answer[: len(answer) // 2],
    "30 MB": lambda answer: answer.replace(b"</app>", b"<x/>" * 8_000_000 + b"</app>"),
    "entity bomb": lambda _: BOMB,
    "host that is not allowed": swap('codebase="http://127.0.0.1', 'codebase="http://127.0.0.2'),
    "file:": swap('codebase="http://[^/]*', 'codebase="file://'),
    "user in the codebase": swap('codebase="http://', 'codebase="http://me@'),
    "no codebase": swap("<urls>.*</urls>", ""),
    "../ in a name": swap(f'name="{AZURE}"', 'name="../../etc/oem-azure.gz"'),
    "size 0": swap('size="[0-9]+"', 'size="0"'),
    "10 TB": swap('size="[0-9]+"', 'size="10995116277760"'),
    "hex where base64 belongs": swap('sha256="[A-Za-z0-9+/]{43}="', f'sha256="{"ab" * 32}"'),
    "base64 where SHA-1 belongs": swap(' hash="[^"]*"', ' hash="zzzz"'),
    "two packages of one name": swap(f'name="{AZURE}"', f'name="{PAYLOAD}"'),
    "no packages": swap("<packages>.*</packages>", "<packages/>"),
    "no manifest": swap("<manifest .*</manifest>", ""),
    "unreadable version": swap(f'version="{TARGET}"', 'version="latest"'),
    "another application": swap('appid="[^"]*"', 'appid="11111111-2222-3333-4444-555555555555"'),
    "unknown status": swap('<updatecheck status="ok"', '<updatecheck status="perhaps"'),
}
each = pytest.mark.parametrize("spoil", BAD.values(), ids=BAD.keys())


@pytest.fixture
def nebraska(upstream: Upstream) -> Nebraska:
    nebraska = Nebraska(upstream)
    nebraska.publish(TARGET, {PAYLOAD: body(TARGET), AZURE: b"azure" * 100})
    nebraska.group("stable", TARGET)
    return nebraska


def spoilt(nebraska: Nebraska, spoil: Spoil) -> None:
    nebraska.upstream.answer(
        PATH, lambda request: spoil(re.sub(rb"\n\s*", b"", nebraska._answer(request)))
    )


def fetched(upstream: Upstream) -> list[str]:
    return [entry.path for entry in upstream.log if entry.path != PATH]


@each
async def test_a_bad_answer_is_refused_once_and_nothing_comes_of_it(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska, spoil: Spoil
) -> None:
    spoilt(nebraska, spoil)
    async with following(tmp_path, nebraska) as mirror:
        with capture_logs() as logs:
            for number in range(3):
                await Box(mirror, number=number, oem="azure").nothing()
        [line] = [entry for entry in logs if entry["log_level"] not in ("info", "debug")]
        assert line["event"] == "upstream's answer is refused; the earlier answer stays in force"
        assert line["why"].isprintable()
        assert len(line["why"]) < 1000
        assert count(mirror, "upstream_errors_total", kind="refused") == 1
        reason = Reason.REFUSED.value
        assert count(mirror, "checks_total", decision="noupdate", reason=reason) == 3
        assert fetched(upstream) == []
        assert upstream.bytes_sent(PATH) < 8_000_000
        # And a good answer is taken at once.
        nebraska.answer()
        await mirror.service.warm_up.sync()
        assert (await Box(mirror, oem="azure").offer()).version == TARGET
        assert not (await channel(mirror)).trouble


@each
async def test_what_was_known_stands_against_a_bad_answer(
    tmp_path: Path, nebraska: Nebraska, spoil: Spoil
) -> None:
    async with following(tmp_path, nebraska) as mirror:
        offer = await Box(mirror, oem="azure").offer()
        spoilt(nebraska, spoil)
        await mirror.service.warm_up.sync()
        assert (await channel(mirror)).trouble
        assert await Box(mirror, oem="azure").offer() == offer


@each
async def test_a_relayed_machine_is_offered_nothing_bad(
    tmp_path: Path,
    upstream: Upstream,
    nebraska: Nebraska,
    spoil: Spoil,
    logs: Logs,
) -> None:
    spoilt(nebraska, spoil)
    async with following(tmp_path, nebraska, tracks={"stable": "relay"}) as mirror:
        for number in range(3):
            await Box(mirror, number=number).nothing()
        refused = "upstream's answer to a machine cannot be used"
        assert [line["event"] for line in logs].count(refused) == 1
        assert fetched(upstream) == []


# Names that machines make up


async def flood(mirror: Mirror, requests: list[Request]) -> None:
    talk = await Talk.dial(mirror.address)
    try:
        for asked in requests:
            await talk.send(request("POST", "/v1/update/", {}, serialise_request(asked)))
            answer = await talk.answer()
            assert answer.status == 200
            assert b'status="noupdate"' in answer.body
    finally:
        talk.close()


def made_up(field: str, numbers: range) -> list[Request]:
    """Checks of one machine that names another track, board or application in each."""
    check = Box(Site()).client.check()
    form = "{{{:08x}-2222-3333-4444-555555555555}}" if field == "appid" else "name-{}"
    named: list[dict[str, Any]] = [{field: form.format(n)} for n in numbers]
    return [replace(check, apps=(replace(check.apps[0], **name),)) for name in named]


@pytest.mark.parametrize("field", ["track", "board", "appid"])
async def test_however_many_made_up_names_cost_a_bounded_number_of_questions(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska, field: str
) -> None:
    async with following(tmp_path, nebraska, tracks={"stable": "follow"}) as mirror:
        offer = await Box(mirror).offer()
        before = len(upstream.requests(PATH))
        await flood(mirror, made_up(field, range(300)))
        followed = len(await mirror.service.warm_up.channels())
        asked = len(upstream.requests(PATH)) - before
        assert followed <= 64 + 1
        assert asked <= (64 if field == "track" else 0)
        await flood(mirror, made_up(field, range(300, 600)))
        assert len(await mirror.service.warm_up.channels()) == followed
        assert len(upstream.requests(PATH)) - before == asked
        await mirror.service.examine()
        exposition = await mirror.service.metrics.exposition()
        assert exposition.count(b"omaha_mirror_track_offers{") == followed
        assert await Box(mirror, number=7).offer() == offer
