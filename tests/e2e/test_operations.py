"""A running mirror gets another config, with machines at it all the while."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.load import under_load
from tests.support.mirror import PAYLOAD_PATH, MirrorProcess, omaha
from tests.support.talk import dial, request
from tests.support.upstream import Upstream

TRICKLE = {"rate_limit": "16KiB"}
"""At this rate the payload would take four minutes."""


def changed(mirror: MirrorProcess, **changes: Any) -> str:
    """The config in force with other values for some keys."""
    config = yaml.safe_load(mirror.config)
    for key, value in changes.items():
        config[key] = config.get(key, {}) | value if isinstance(value, dict) else value
    return yaml.safe_dump(config)


async def status(mirror: MirrorProcess) -> str:
    """What a machine of the track is told now: `ok` or `noupdate`."""
    [app] = (await mirror.response(omaha("request_check_first"))).apps
    assert app.update_check is not None
    return app.update_check.status


async def test_a_good_config_is_seen_by_the_next_check_and_no_request_is_lost(
    process: MirrorProcess,
) -> None:
    assert await status(process) == "ok"
    async with under_load(process) as load:
        process.reload(changed(process, tracks={"stable": "hold"}))
        assert '["tracks"]' in await process.logged("config reloaded")
        assert await status(process) == "noupdate"
    assert (load.lost, load.refused) == (0, 0)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("tracks: {stable: hold}\nupstream: {max_fils: 7}\n", "did you mean max_fills?"),
        ("tracks: {stable: hold}\nlog: {level: [\n", "config.yaml:"),
    ],
    ids=["an unknown key", "no YAML"],
)
async def test_a_broken_config_changes_nothing_and_loses_no_request(
    process: MirrorProcess, broken: str, why: str
) -> None:
    good = process.config
    async with under_load(process) as load:
        process.reload(broken)
        assert why in await process.logged("all stays as it was")
        assert await status(process) == "ok"
        await load.more()
        process.reload(good)
        assert '"applied": []' in await process.logged("config reloaded")
    assert (load.lost, load.refused) == (0, 0)
    assert await process.terminate() == 0


async def test_a_machine_keeps_its_connection_through_a_reload(process: MirrorProcess) -> None:
    assert await status(process) == "ok"
    check = request("POST", "/v1/update/", body=omaha("request_check_first"))
    async with dial(process.address) as talk:
        await talk.send(check)
        before = await talk.answer()
        process.reload(changed(process, tracks={"stable": "hold"}))
        await process.logged("config reloaded")
        await talk.send(check)
        after = await talk.answer()
    assert b'status="noupdate"' not in before.body
    assert b'status="noupdate"' in after.body


async def test_a_download_goes_on_through_a_reload_at_the_new_rate(
    release: Upstream, tmp_path: Path, payload: bytes
) -> None:
    async with MirrorProcess(tmp_path, release.origin, upstream=TRICKLE) as mirror:
        path = await mirror.payload()
        async with under_load(mirror) as load, dial(mirror.address) as talk:
            await talk.send(request("GET", path))
            head = await talk.head()
            got = await talk.read(1)
            mirror.reload(changed(mirror, upstream={"rate_limit": None}))
            assert '["upstream.rate_limit"]' in await mirror.logged("config reloaded")
            got += await talk.read(head.length - 1)
        assert got == payload
        assert (load.lost, load.refused) == (0, 0)
    assert release.bytes_sent(PAYLOAD_PATH) == len(payload)


async def test_the_log_level_is_another_at_once(process: MirrorProcess) -> None:
    assert (await process.post(b"no XML")).status == 400
    await process.logged("requests that cannot be read")
    process.reload(changed(process, log={"level": "debug"}))
    await process.logged("config reloaded")
    assert not [line for line in process.log if "bad request" in line]
    assert (await process.post(b"no XML")).status == 400
    assert '"level": "debug"' in await process.logged("bad request")


async def test_what_waits_for_a_restart_is_said_and_the_rest_applied(
    process: MirrorProcess,
) -> None:
    assert await status(process) == "ok"
    process.reload(
        changed(
            process, listen=["127.0.0.1:1"], cache={"hold_back": "2MiB"}, tracks={"stable": "hold"}
        )
    )
    assert '["tracks"]' in await process.logged("config reloaded")
    assert '["listen", "cache.hold_back"]' in await process.logged("wait for a restart")
    assert await status(process) == "noupdate"
