"""Schedules that once failed, as small as they became: what was found by them is found again where it comes back.

They are written out, as a seed means another schedule whenever `generate` is changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.sim.releases import SHAPES, Release
from tests.sim.schedule import (
    Act,
    Armed,
    DiskTrouble,
    End,
    Event,
    Link,
    LinkTrouble,
    MachinePlan,
    Refuse,
    Schedule,
    Settings,
)
from tests.support.faults import Corrupt

VERSION = "3815.2.1"
LONG, SHORT = (replace(shape, version=VERSION) for shape in SHAPES[:2])
BARE = replace(SHAPES[3], version="3602.2.3")


@dataclass(frozen=True, slots=True)
class Case:
    """A schedule, and what went wrong."""

    words: str
    schedule: Schedule


def _case(
    words: str,
    *,
    seed: int,
    machines: Sequence[MachinePlan],
    events: Sequence[Event],
    settings: Settings | None = None,
    release: Release = LONG,
) -> Case:
    schedule = Schedule(
        seed=seed,
        settings=settings or Settings(),
        releases=(release,),
        bare=BARE,
        machines=tuple(machines),
        events=tuple(events),
    )
    return Case(words, schedule)


CORPUS = (
    _case(
        "a power cut in the first life takes the state directory, and with it all offers",
        seed=274,
        release=SHORT,
        machines=[
            MachinePlan(
                number=1, at=2.4631976711450636, kind="ranges", oem="azure", seed=3966669210
            )
        ],
        events=[
            End(at=0.3707301452688152, seconds=1.0, how="power", change=40),
            Act(at=13.7, what="gc"),
        ],
    ),
    _case(
        "a fill that stops when its only reader was cut goes on with a wrong manifest, for ever",
        seed=573,
        settings=Settings(
            max_fills=1,
            when_abandoned="stop",
            link=Link(latency=0.1, rate=2e6, segment=65536, buffer=4096),
            limits={"trickle_seconds": 0.2},
        ),
        machines=[MachinePlan(number=1, at=0.342, seed=40092907)],
        events=[
            Armed(at=0.0, path=LONG.path(), fault=Corrupt(times=1, at=53)),
            End(at=77.289, seconds=30.0),
        ],
    ),
    _case(
        "a power cut takes a wrong manifest that a client has, and the right one comes in its place",
        seed=521,
        settings=Settings(hold_back=4096, link=Link(latency=0.1, rate=2e4, segment=536)),
        machines=[MachinePlan(number=1, at=0.0, kind="curl", seed=2729283619)],
        events=[
            Armed(at=1.881, path=LONG.path(), fault=Corrupt(times=2, at=318)),
            End(at=3.9646, seconds=30.0, how="power"),
        ],
    ),
    _case(
        "a wrong manifest left a package that passes through memory, upstream was away, and the next fill has the right one",
        seed=0,
        settings=Settings(
            hold_back=1,
            max_connections=1,
            link=Link(latency=0.05, rate=8000.0, segment=1460, buffer=4096),
        ),
        release=SHORT,
        machines=[MachinePlan(number=1, at=0.5, kind="curl", seed=2212716914)],
        events=[
            Armed(at=0.0, path=SHORT.path(), fault=Corrupt(times=1, at=59)),
            DiskTrouble(at=0.55, seconds=100.0, kind="full"),
            Refuse(at=4.460053899575765, seconds=90.0, port=80),
        ],
    ),
    _case(
        "a wrong manifest left, a kill, and the disk cannot read it back",
        seed=2,
        settings=Settings(
            hold_back=4096, link=Link(latency=0.05, rate=8000.0, segment=1460, buffer=4096)
        ),
        machines=[MachinePlan(number=1, at=0.5, kind="curl", seed=1269955006)],
        events=[
            Armed(at=0.0, path=LONG.path(), fault=Corrupt(times=1, at=198)),
            End(at=8.197616835052596, seconds=0.5),
            DiskTrouble(
                at=8.797616835052596, seconds=100.0, kind="read", nth=3, times=0, path=".data"
            ),
        ],
    ),
    _case(
        "a wrong manifest left, its client comes back, and the disk cannot read it back",
        seed=0,
        settings=Settings(
            hold_back=1,
            max_connections=1,
            when_abandoned="stop",
            link=Link(latency=0.05, rate=8000.0, segment=1460, buffer=4096),
        ),
        release=SHORT,
        machines=[MachinePlan(number=1, at=0.5, kind="curl", seed=2762353610)],
        events=[
            Armed(at=0.0, path=SHORT.path(), fault=Corrupt(times=1, at=193)),
            LinkTrouble(at=7.3609649795277114, who="machine 1", how="reset"),
            DiskTrouble(at=7.960964979527711, seconds=100.0, kind="read", times=0, path=".data"),
        ],
    ),
)
