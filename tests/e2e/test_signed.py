"""With keys, only what one of them has signed gets to a machine, whatever upstream and its digests say."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from omaha_mirror.cache import events
from omaha_mirror.catalog import Reason
from omaha_mirror.observability.health import State
from omaha_mirror.omaha import NoUpdate
from tests.cache.payloads import pieces, signed
from tests.e2e.site import FLOORS, TARGET, Box, count, following, until
from tests.faults.clients import Machine, Outcome
from tests.payload.build import DATA, build, pem
from tests.support.mirror import (
    PAYLOAD,
    PAYLOAD_PATH,
    VERSION,
    Mirror,
    MirrorProcess,
    Site,
    mirror_in_process,
    omaha,
)
from tests.support.nebraska import Nebraska
from tests.support.talk import PATIENCE, dial, request
from tests.support.upstream import Upstream
from tests.web.asking import api_of

PIECES = pieces(30, 50_000)
GOOD = signed(PIECES)
UNSIGNED = build(PIECES)
ANOTHERS = signed(PIECES, "another")
DELTA = (DATA / "delta" / "update.gz").read_bytes()
EARLIER = "3815.2.0"
UNTRUSTED = Reason.UNTRUSTED.value
AZURE = "oem-azure.gz"


@pytest.fixture
def keys(tmp_path: Path) -> list[str]:
    """The vendor's, and the one that signed the delta."""
    path = tmp_path / "vendor.pem"
    path.write_bytes(pem("vendor"))
    return [str(path), str(DATA / "update-payload-key.pub.pem")]


def machines(site: Site, path: str, body: bytes) -> list[Coroutine[Any, Any, Outcome]]:
    """Each wants the end of it."""
    machine, size = Machine(site.address, path, body), len(body)
    return [
        machine.whole(),
        machine.resuming(),
        machine.resuming(if_range=True),
        machine.tail(size // 2),
        machine.tail(size - 1),
        machine.suffix(1),
        machine.suffix(size // 3),
        machine.bounded(1, size),
        machine.after_reboot(4 * size // 5),
    ]


async def nothing(mirror: Mirror, number: int = 1) -> str:
    """Why a machine is told that there is no update."""
    box = Box(mirror, number=number)
    assert isinstance(await box.check(), NoUpdate)
    [app] = box.requests[-1].apps
    decision = mirror.service.decisions.dry_run(app)
    assert decision is not None
    assert decision.release is None
    return f"{decision.reason}: {decision.detail}"


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (UNSIGNED, "it is not signed"),
        (ANOTHERS, "it is signed, and by none of the given keys"),
        (DELTA, "a delta payload"),
    ],
    ids=["unsigned", "another key", "delta"],
)
async def test_what_no_key_vouches_for_completes_nowhere_and_is_offered_and_fetched_no_more(
    upstream: Upstream, tmp_path: Path, keys: list[str], payload: bytes, why: str
) -> None:
    """Manifest and sidecar agree with it."""
    upstream.put(PAYLOAD_PATH, payload)
    upstream.put(f"/amd64-usr/{EARLIER}/{PAYLOAD}", GOOD)
    changes = {
        "upstream": {"public_keys": keys},
        "tracks": {"stable": VERSION, "beta": EARLIER},
    }
    async with mirror_in_process(tmp_path, upstream.origin, **changes) as mirror:
        path = await mirror.payload()
        with capture_logs() as logs:
            ended = await asyncio.gather(*machines(mirror, path, payload))
            await mirror.until(lambda: bool(mirror.ended()))
        assert not [each for each in ended if each.broken or each.word == "ok" or not each.right]
        assert all(each.held < len(payload) for each in ended)
        [told] = [entry for entry in logs if entry["event"] == "fill ended"]
        assert (told["outcome"], why in told["reason"]) == ("untrusted", True)
        assert why in await nothing(mirror)
        sent = upstream.bytes_sent(PAYLOAD_PATH)
        again = [Machine(mirror.address, path, payload).whole() for _ in range(3)]
        assert [each.word for each in await asyncio.gather(*again)] == ["status 502"] * 3
        assert (await mirror.get(PAYLOAD_PATH)).status == 502
        assert upstream.bytes_sent(PAYLOAD_PATH) == sent <= 2 * len(payload)
        assert count(mirror, "checks_total", decision="noupdate", reason=UNTRUSTED) == 1
        assert count(mirror, "verification_failures_total", found="signature") == 1
        assert count(mirror, "packages_failed_total", error="untrusted") >= 4
        assert await Box(mirror, track="beta").update() == EARLIER
    async with mirror_in_process(tmp_path, upstream.origin, **changes) as mirror:
        assert await nothing(mirror, 2) == f"{UNTRUSTED}: {told['reason']}"
        assert (await mirror.get(path)).status == 502
        assert upstream.bytes_sent(PAYLOAD_PATH) == sent


async def test_what_is_signed_completes_at_all_who_want_it(
    upstream: Upstream, tmp_path: Path, keys: list[str]
) -> None:
    upstream.put(PAYLOAD_PATH, GOOD)
    async with mirror_in_process(
        tmp_path, upstream.origin, upstream={"public_keys": keys}
    ) as mirror:
        ended = await asyncio.gather(*machines(mirror, await mirror.payload(), GOOD))
        assert {each.word for each in ended} == {"ok"}
        await mirror.until(lambda: bool(mirror.ended()))
        [blob] = (await mirror.service.cache.contents()).blobs
        assert blob.signed_by


async def test_operators_see_what_is_refused_and_why(
    upstream: Upstream, tmp_path: Path, keys: list[str]
) -> None:
    nebraska = Nebraska(upstream)
    for version, payload in ((FLOORS[0], GOOD), (TARGET, UNSIGNED)):
        nebraska.publish(version, {PAYLOAD: payload})
    nebraska.group("stable", TARGET, floors=FLOORS[:1])
    async with following(tmp_path, nebraska, upstream={"public_keys": keys}) as mirror:
        box = Box(mirror)
        assert await box.update() == FLOORS[0]
        offer = await box.offer()
        with pytest.raises(AssertionError):
            await box.download(offer)
        await until(mirror, lambda: bool(mirror.service.availability.packages()))
        await box.nothing()
        async with api_of(mirror) as api:
            [track] = [t for t in (await api.get("tracks"))["tracks"] if t["track"] == "stable"]
            assert [offered["version"] for offered in track["offered"]] == [FLOORS[0]]
            states = [step["state"] for step in track["channels"][0]["steps"]]
            assert states == ["offered", UNTRUSTED]
            [synced] = (await api.post("sync"))["tracks"]
            assert [step["state"] for step in synced["steps"]] == states
            for part, words in (
                ("tracks", f"{TARGET} is not offered: {Reason.UNTRUSTED.words}"),
                ("errors", "untrusted: it is not signed"),
                ("fills", "not signed as it must be"),
            ):
                page = await api.ask("GET", f"/fragments/{part}")
                assert (page.status, words in page.body.decode()) == (200, True), part
        health = {finding.name: finding for finding in (await mirror.service.examine()).findings}
        assert health["signatures"].state is State.DEGRADED
        assert "it is not signed" in health["signatures"].words


async def test_an_oem_package_that_is_not_signed_keeps_the_machines_of_that_oem_only(
    upstream: Upstream, tmp_path: Path, keys: list[str]
) -> None:
    nebraska = Nebraska(upstream)
    nebraska.publish(TARGET, {PAYLOAD: GOOD, AZURE: UNSIGNED})
    nebraska.group("stable", TARGET)
    async with following(tmp_path, nebraska, upstream={"public_keys": keys}) as mirror:
        azure = Box(mirror, oem="azure")
        offer = await azure.offer()
        await azure.download(offer)
        await mirror.until(lambda: len(mirror.ended()) == 2)
        assert {event.outcome for event in mirror.ended()} == {
            events.Outcome.PROVEN,
            events.Outcome.UNTRUSTED,
        }
        await azure.nothing()
        assert count(mirror, "checks_total", decision="noupdate", reason="incomplete") == 1
        assert await Box(mirror, number=2).update() == TARGET


# Keys that change


class Keyed:
    """A mirror as a process, whose keys are named anew."""

    def __init__(self, process: MirrorProcess, folder: Path) -> None:
        self.process = process
        self._folder = folder
        self._reloads = 0

    async def trust(self, *names: str) -> None:
        for name in names:
            (self._folder / f"{name}.pem").write_bytes(pem(name))
        config = yaml.safe_load(self.process.config)
        config["upstream"]["public_keys"] = [f"{name}.pem" for name in names]
        await self.reload(yaml.safe_dump(config))

    async def reload(self, config: str) -> None:
        self._reloads += 1
        self.process.reload(config)
        await self.logged("config reloaded", self._reloads)

    async def logged(self, words: str, count: int) -> None:
        """Wait for so many lines of the log that have these words."""
        async with asyncio.timeout(PATIENCE):
            while sum(words in line for line in self.process.log) < count:
                self.process._news.clear()
                await self.process._news.wait()

    async def status(self) -> str:
        [app] = (await self.process.response(omaha("request_check_first"))).apps
        assert app.update_check is not None
        return app.update_check.status


async def is_cut(process: MirrorProcess, upstream: Upstream, path: str, size: int) -> bool:
    """Whether the first machine that wants a package gets some of it, and never all."""
    gate = upstream.hold(PAYLOAD_PATH, at=size - 1)
    async with dial(process.address) as talk:
        await talk.send(request("GET", path))
        head = await talk.head()
        gate.open()
        return head.status == 200 and 0 < len(await talk.rest()) < size


async def test_keys_rotate_by_reload_and_packages_go_with_them(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.put(PAYLOAD_PATH, ANOTHERS)
    (tmp_path / "vendor.pem").write_bytes(pem("vendor"))
    async with MirrorProcess(
        tmp_path, upstream.origin, upstream={"public_keys": ["vendor.pem"]}
    ) as process:
        mirror, path = Keyed(process, tmp_path), await process.payload()
        machine = Machine(process.address, path, ANOTHERS)
        assert await is_cut(process, upstream, path, len(ANOTHERS))
        assert await mirror.status() == "noupdate"
        await mirror.trust("vendor", "another")
        assert '["upstream.public_keys"]' in process.log[-1]
        assert await mirror.status() == "ok"
        assert (await machine.whole()).word == "ok"
        sent = upstream.bytes_sent(PAYLOAD_PATH)
        # One that is signed by a key that stays goes on, and nothing is fetched.
        await mirror.trust("another")
        assert (await mirror.status(), (await machine.whole()).word) == ("ok", "ok")
        # The key goes: what is here is read again, and offered no more before anybody asks.
        (tmp_path / "another.pem").write_bytes(pem("the next"))
        await mirror.reload(process.config)
        await mirror.logged('"outcome": "untrusted"', 2)
        assert await mirror.status() == "noupdate"
        assert (await machine.whole()).word == "status 502"
        assert upstream.bytes_sent(PAYLOAD_PATH) == sent


async def test_what_came_before_there_was_a_key_is_proven_from_the_disk(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.put(PAYLOAD_PATH, GOOD)
    async with MirrorProcess(tmp_path, upstream.origin) as process:
        mirror, path = Keyed(process, tmp_path), await process.payload()
        machine = Machine(process.address, path, GOOD)
        assert (await machine.whole()).word == "ok"
        await mirror.trust("vendor")
        assert (await mirror.status(), (await machine.whole()).word) == ("ok", "ok")
        await upstream.refuse()
        assert await process.terminate() == 0
    assert upstream.bytes_sent(PAYLOAD_PATH) == len(GOOD)


async def test_a_key_that_cannot_be_used_changes_nothing(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.put(PAYLOAD_PATH, UNSIGNED)
    (tmp_path / "vendor.pem").write_bytes(pem("vendor"))
    async with MirrorProcess(
        tmp_path, upstream.origin, upstream={"public_keys": ["vendor.pem"]}
    ) as process:
        (tmp_path / "vendor.pem").write_text("no key")
        process.reload(process.config)
        assert "no PEM public key" in await process.logged("all stays as it was")
        path = await process.payload()
        assert await is_cut(process, upstream, path, len(UNSIGNED))
