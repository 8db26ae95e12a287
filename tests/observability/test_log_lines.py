"""What of the cache's news gets a line in the log."""

import pytest
from structlog.testing import capture_logs

from omaha_mirror.cache import events
from omaha_mirror.observability import log_lines


def test_bytes_that_are_fetched_again_are_told_with_their_place() -> None:
    with capture_logs() as logs:
        log_lines.log_event(events.Repaired("k", "http://up/update.gz", 5, 9, leaked=True))
    [line] = logs
    assert line["log_level"] == "warning"
    assert (line["source"], line["start"], line["stop"]) == ("http://up/update.gz", 5, 9)
    assert line["some_were_sent"]


@pytest.mark.parametrize("outcome", events.Outcome)
def test_a_fetch_that_did_not_end_well_warns(outcome: events.Outcome) -> None:
    with capture_logs() as logs:
        log_lines.log_event(events.FillEnded("k", "u", 10, 1.0, outcome, "why"))
    level = "info" if outcome is events.Outcome.PROVEN else "warning"
    assert [(line["log_level"], line["outcome"]) for line in logs] == [(level, outcome.value)]
