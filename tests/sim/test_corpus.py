"""What the simulation once found does not come back."""

import pytest

from tests.sim.corpus import CORPUS, Case
from tests.sim.run import run


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.words.replace(" ", "-"))
def test_a_schedule_that_once_failed_runs_clean(case: Case) -> None:
    assert run(case.schedule).problems == []
