"""A changed config while the mirror runs."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

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


@contextmanager
def unanswering(mirror: MirrorProcess, file: Path) -> Iterator[TextIO]:
    """The config in place of which the mirror finds a pipe: it reads on until the block writes and closes it."""
    file.unlink()
    os.mkfifo(file)
    os.kill(mirror.pid, signal.SIGHUP)
    with file.open("w") as writer:  # when the mirror has it open
        yield writer


async def test_a_file_that_does_not_answer_stops_no_machine(
    tmp_path: Path, upstream: Upstream
) -> None:
    async with MirrorProcess(tmp_path, upstream.origin) as mirror:
        changed = yaml.safe_load(mirror.config)
        changed["upstream"] |= {"max_fills": 7}
        with unanswering(mirror, tmp_path / "config.yaml") as writer:
            assert (await mirror.get("/healthz")).status == 200
            writer.write(yaml.safe_dump(changed))
        assert "max_fills" in await mirror.logged("config reloaded")


async def test_a_file_that_does_not_answer_does_not_hold_up_a_stop(
    tmp_path: Path, upstream: Upstream
) -> None:
    async with MirrorProcess(tmp_path, upstream.origin) as mirror:
        with unanswering(mirror, tmp_path / "config.yaml"):
            assert await mirror.terminate() == 0


async def test_signals_during_a_reload_are_one_further_reload(
    tmp_path: Path, upstream: Upstream
) -> None:
    async with MirrorProcess(tmp_path, upstream.origin) as mirror:
        good = yaml.safe_load(mirror.config)
        file = tmp_path / "config.yaml"
        with unanswering(mirror, file) as writer:
            for _ in range(5):
                os.kill(mirror.pid, signal.SIGHUP)
            assert (await mirror.get("/healthz")).status == 200
            file.unlink()
            file.write_text("upstream: {max_fils: 7}")
            writer.write(yaml.safe_dump(good))
        await mirror.logged("all stays as it was")
        good["upstream"] |= {"rate_limit": "1MiB"}
        mirror.reload(yaml.safe_dump(good))
        await mirror.logged("upstream.rate_limit")
        words = ("config reloaded", "all stays as it was")
        told = [word for line in mirror.log for word in words if word in line]
    assert told == ["config reloaded", "all stays as it was", "config reloaded"]
