"""A changed config while the mirror runs."""

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
