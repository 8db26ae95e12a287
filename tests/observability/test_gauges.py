"""What is looked up is what the parts say now."""

from dataclasses import dataclass

from omaha_mirror.cache import Ledger, Progress
from omaha_mirror.catalog import Reason
from omaha_mirror.catalog.channel import ChannelStatus, StepStatus
from omaha_mirror.observability.counters import Counters
from omaha_mirror.observability.gauges import readings
from omaha_mirror.observability.health import Finding, Health, State
from omaha_mirror.upstream.outbox import OutboxStats
from tests.observability.exposed import series, value

OTHER_APP = "a" * 8 + "-0000-0000-0000-" + "b" * 12


def channel(track: str, *states: Reason, app_id: str = "app", trouble: str = "") -> ChannelStatus:
    steps = tuple(StepStatus(f"{i}.0.0", False, 1.0, state) for i, state in enumerate(states))
    return ChannelStatus(app_id, "amd64-usr", track, steps, Reason.OFFERED, "", trouble, 11, 12, 13)


@dataclass
class Parts:
    """A mirror's live parts."""

    ledger: Ledger
    free: int | None
    health: Health
    fills: list[Progress]
    channels: list[ChannelStatus]
    connections: dict[str, int]
    queues: dict[str, OutboxStats]
    looks: int = 0

    def look(self) -> list[ChannelStatus]:
        self.looks += 1
        return self.channels


def watched() -> tuple[Counters, Parts]:
    parts = Parts(Ledger(1000, 7), None, Health(()), [], [], {}, {})
    metrics = Counters()
    metrics.watch(
        readings(
            ledger=parts.ledger,
            free=lambda: parts.free,
            health=lambda: parts.health,
            fills=lambda: parts.fills,
            channels=parts.look,
            connections=lambda: parts.connections,
            queues=lambda: parts.queues,
            lost_lines={},
        )
    )
    return metrics, parts


def test_the_books_of_the_disk_are_told_as_they_change() -> None:
    metrics, parts = watched()
    assert value(metrics, "cache_used_bytes") == 0
    assert value(metrics, "disk_free_bytes") is None
    parts.ledger.settle("k", 300, 1.0)
    parts.ledger.reserve("l", 200)
    parts.ledger.max_size = 2000
    parts.free = 99
    assert value(metrics, "cache_used_bytes") == 500
    assert value(metrics, "cache_blobs") == 1
    assert value(metrics, "cache_max_bytes") == 2000
    assert value(metrics, "disk_free_bytes") == 99
    assert value(metrics, "disk_min_free_bytes") == 7


def test_one_state_of_health_is_told() -> None:
    metrics, parts = watched()
    parts.health = Health((Finding("disk", State.FAILED, "full"), Finding("x", State.OK, "")))
    told = {state: value(metrics, "health", state=state) for state in State}
    assert told == {State.OK: 0, State.DEGRADED: 0, State.FAILED: 1}


def test_a_fill_in_the_queue_is_no_running_one() -> None:
    metrics, parts = watched()
    parts.fills = [Progress("k", "u", 9, 1, 0.0, 0, queued) for queued in (0, 1, 2)]
    assert value(metrics, "fills_under_way", state="running") == 1
    assert value(metrics, "fills_under_way", state="queued") == 2


def test_two_applications_on_one_track_are_two_series() -> None:
    metrics, parts = watched()
    parts.channels = [
        channel("stable", Reason.OFFERED, Reason.OFFERED, Reason.SIDECAR_DISAGREES),
        channel("stable", app_id=OTHER_APP, trouble="it is down"),
    ]
    first = {"app_id": "app", "board": "amd64-usr", "track": "stable"}
    second = {**first, "app_id": OTHER_APP}
    assert value(metrics, "track_offers", **first) == 2
    assert value(metrics, "track_offers", **second) == 0
    assert value(metrics, "track_trouble", **first) == 0
    assert value(metrics, "track_trouble", **second) == 1
    assert value(metrics, "track_answered_timestamp_seconds", **first) == 11
    assert value(metrics, "track_asked_timestamp_seconds", **first) == 13


def test_tracks_are_looked_at_once_for_all_that_is_told_of_them() -> None:
    metrics, parts = watched()
    parts.channels = [channel("stable")]
    before = parts.looks
    assert len([name for name, _ in series(metrics) if "_track_" in name]) == 4
    assert parts.looks == before + 1


def test_a_track_of_any_name_is_exposed_as_it_is() -> None:
    metrics, parts = watched()
    name = 'a "quoted"\\\n} 1\nomaha_mirror_pings_total 9 \u2028 ß'
    parts.channels = [channel(name)]
    labels = {"app_id": "app", "board": "amd64-usr", "track": name}
    assert value(metrics, "track_offers", **labels) == 0
    assert value(metrics, "pings_total") == 0


def test_connections_and_queues_are_told_by_name() -> None:
    metrics, parts = watched()
    parts.connections = {"public": 12, "admin": 1}
    parts.queues = {"outbox": OutboxStats(queued=4, sent=3, dropped=2, refused=1)}
    assert value(metrics, "connections", listener="public") == 12
    assert value(metrics, "queue_items", queue="outbox") == 4
    for outcome, count in {"sent": 3, "dropped": 2, "refused": 1}.items():
        found = value(metrics, "queue_ended_total", queue="outbox", outcome=outcome)
        assert found == count
