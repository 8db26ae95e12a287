"""`omaha-mirror config reload`: what `systemctl reload` runs, against a real mirror."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from omaha_mirror.cache.lock import in_use
from omaha_mirror.config import Address
from tests.cli.running import run
from tests.support.mirror import MirrorProcess, omaha
from tests.support.talk import ask
from tests.support.upstream import Upstream

PATIENCE = 60.0


@pytest.fixture
async def mirror(tmp_path: Path, upstream: Upstream) -> AsyncIterator[MirrorProcess]:
    async with MirrorProcess(tmp_path, upstream.origin) as mirror:
        yield mirror


async def reload(mirror: MirrorProcess, text: str, directory: Path) -> tuple[int, str]:
    """Write a config, and run the command; its exit status and what it said."""
    (directory / "config.yaml").write_text(text)
    done = await run(directory, "config", "reload", str(mirror.pid))
    return done.status, done.err


async def finding(directory: Path) -> dict[str, Any] | None:
    """What /readyz says of the config; the mirror is ready in any case."""
    running = in_use(directory / "cache")
    assert running is not None
    assert running.holder is not None
    assert running.holder.admin is not None
    admin = running.holder.admin
    answer = await ask(Address.parse(admin), "GET", "/readyz", {"Host": admin})
    assert answer.status == 200
    checks = json.loads(answer.body)["checks"]
    return next((check for check in checks if check["name"] == "config"), None)


async def test_a_good_config_is_applied(mirror: MirrorProcess, tmp_path: Path) -> None:
    config = yaml.safe_load(mirror.config) | {"tracks": {"stable": "hold"}}
    assert await reload(mirror, yaml.safe_dump(config), tmp_path) == (0, "")
    await mirror.logged("config reloaded")
    [app] = (await mirror.response(omaha("request_check_first"))).apps
    assert app.update_check is not None
    assert app.update_check.status == "noupdate"
    assert await finding(tmp_path) is None


async def test_a_broken_one_fails_visibly_and_readiness_says_what_is_in_force(
    mirror: MirrorProcess, tmp_path: Path
) -> None:
    good = mirror.config
    code, said = await reload(mirror, "upstream: {max_fils: 7}\n", tmp_path)
    assert code == 78
    assert "did you mean max_fills?" in said
    await mirror.logged("all stays as it was")
    found = await finding(tmp_path)
    assert found is not None
    assert found["state"] == "degraded"
    assert "max_fils" in found["words"]

    assert (await reload(mirror, good, tmp_path))[0] == 0
    await mirror.logged("config reloaded")
    async with asyncio.timeout(PATIENCE):
        while await finding(tmp_path) is not None:  # noqa: ASYNC110  # /readyz repeats its answer
            await asyncio.sleep(0.05)


async def test_a_file_that_the_config_names_and_that_is_not_there_fails_too(
    mirror: MirrorProcess, tmp_path: Path
) -> None:
    secret = {"user": "machine", "password_file": str(tmp_path / "none")}
    config = yaml.safe_load(mirror.config) | {
        "packages_auth": secret,
        "public_url": "https://mirror.example",
    }
    code, said = await reload(mirror, yaml.safe_dump(config), tmp_path)
    assert code != 0
    assert str(tmp_path / "none") in said
    await mirror.logged("all stays as it was")


async def test_keys_that_wait_for_a_restart_are_said(mirror: MirrorProcess, tmp_path: Path) -> None:
    config = yaml.safe_load(mirror.config) | {"listen": ["127.0.0.1:1"]}
    assert (await reload(mirror, yaml.safe_dump(config), tmp_path))[0] == 0
    await mirror.logged("wait for a restart")
    found = await finding(tmp_path)
    assert found is not None
    assert (found["state"], "listen" in found["words"]) == ("ok", True)


async def test_a_process_that_is_gone_is_said(mirror: MirrorProcess, tmp_path: Path) -> None:
    assert await mirror.terminate() == 0
    code, said = await reload(mirror, mirror.config, tmp_path)
    assert (code, "No such process" in said) == (1, True)
