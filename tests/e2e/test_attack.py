"""A thousand machines update while somebody attacks the mirror with all that costs much; see `benchmarks.attack` for figures."""

import json
import logging
import re
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.attack import CONNECTIONS, MACHINES, SECONDS, attacked
from benchmarks.servers import ROOT

LOG = logging.getLogger(__name__)
LINES = 20
"""Of one kind, other than those that each request has."""


def memory_max() -> int:
    """What the unit allows, in bytes."""
    unit = (ROOT / "systemd" / "omaha-mirror.service").read_text()
    [gib] = re.findall(r"^MemoryMax=(\d+)G$", unit, re.MULTILINE)
    return int(gib) << 30


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_every_machine_is_served_while_the_mirror_is_attacked(tmp_path: Path) -> None:
    found = await attacked(tmp_path, MACHINES, SECONDS, CONNECTIONS)
    LOG.info("%s", found)
    everybody = ("was offered an update", "has its packages", "has reported")
    assert {what: found.told.get(what) for what in everybody} == dict.fromkeys(everybody, MACHINES)
    assert set(found.told) <= {*everybody, "was not answered"}, found.told
    assert found.memory < memory_max()
    # It was an attack: most of what it could open was open, and the mirror got rid of what did nothing.
    assert sum(n for what, n in found.attack.items() if what.endswith("opened")) > CONNECTIONS // 2
    assert sum(n for what, n in found.attack.items() if what.endswith("closed")) > 0
    assert not [line for line in found.log if "Traceback" in line]
    told = Counter(json.loads(line)["event"] for line in found.log if line.startswith("{"))
    for each_request in ("check", "event", "package"):
        del told[each_request]
    assert max(told.values()) < LINES * 5, told
