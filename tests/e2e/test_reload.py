"""A changed config while the mirror runs."""

import asyncio
import os
import signal
from pathlib import Path

import yaml

from tests.support.mirror import MirrorProcess
from tests.support.upstream import Upstream


async def test_other_limits_are_applied_and_a_broken_config_changes_nothing(
    tmp_path: Path, upstream: Upstream
) -> None:
    async with MirrorProcess(tmp_path, upstream.origin) as mirror:
        changed = yaml.safe_load(mirror.config)
        changed["upstream"] |= {"rate_limit": "1MiB", "max_fills": 7}
        mirror.reload(yaml.safe_dump(changed))
        line = await mirror.logged("config reloaded")
        assert '["upstream.max_fills", "upstream.rate_limit"]' in line
        mirror.reload("upstream: {max_fils: 7}")
        assert "max_fills" in await mirror.logged("all stays as it was")
        assert (await mirror.get("/healthz")).status == 200


async def test_a_file_that_does_not_answer_stops_no_machine(
    tmp_path: Path, upstream: Upstream
) -> None:
    async with MirrorProcess(tmp_path, upstream.origin) as mirror:
        changed = yaml.safe_load(mirror.config)
        changed["upstream"] |= {"max_fills": 7}
        file = tmp_path / "config.yaml"
        file.unlink()
        os.mkfifo(file)
        os.kill(mirror.pid, signal.SIGHUP)
        writer = await asyncio.to_thread(file.open, "w")  # when the mirror has it open
        with writer:
            assert (await mirror.get("/healthz")).status == 200
            writer.write(yaml.safe_dump(changed))
        assert "max_fills" in await mirror.logged("config reloaded")
