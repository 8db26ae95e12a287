"""`machines`: the fleet for people, programs and spreadsheets, whatever its machines send."""

import asyncio
import csv
import io
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from omaha_mirror.cli import machines
from omaha_mirror.cli.machines import cell
from omaha_mirror.cli.running import Json, RunningMirror
from omaha_mirror.config import load
from omaha_mirror.omaha import Client, Machine, serialise_request
from tests.cli.running import Done, run
from tests.support.mirror import MirrorProcess
from tests.support.talk import PATIENCE
from tests.support.upstream import Upstream

pytestmark = pytest.mark.long

FORMULA = '=HYPERLINK("http://evil.example","click")'
ALIASES = {"web": "held", "db": "held", FORMULA: "held"}


async def check_in(mirror: MirrorProcess, number: int, alias: str = "") -> None:
    machine = Machine(
        version=f"3815.2.{number}",
        machineid=f"{number:032x}",
        track="lts",
        machinealias=alias,
    )
    request = Client(machine).check()
    assert (await mirror.post(serialise_request(request))).status == 200


async def known(directory: Path, count: int) -> Done:
    """The list as soon as it has so many: what machines say is written behind."""
    async with asyncio.timeout(PATIENCE):
        while True:
            done = await run(directory, "machines", "--json")
            if done.status == 0 and len(json.loads(done.out)["machines"]) == count:
                return done


@pytest.fixture
async def site(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Path]:
    """The directory of a mirror that three machines have asked."""
    async with MirrorProcess(tmp_path, upstream.origin) as mirror:
        for number, alias in enumerate(ALIASES, 1):
            await check_in(mirror, number, alias)
        await known(tmp_path, len(ALIASES))
        yield tmp_path


async def test_the_fleet_is_listed_for_people_programs_and_spreadsheets(site: Path) -> None:
    done = await run(site, "machines")
    assert (done.status, done.err) == (0, "")
    assert len(done.out.splitlines()) == 1 + len(ALIASES)
    for words in ("MACHINE", f"{1:032x}", "web", "3815.2.1", "lts", "on hold"):
        assert words in done.out
    told = json.loads((await run(site, "machines", "--json")).out)["machines"]
    assert [machine["alias"] for machine in told] == [*ALIASES]
    rows = list(csv.DictReader(io.StringIO((await run(site, "machines", "--csv")).out)))
    assert [row["alias"] for row in rows] == ["web", "db", f"'{FORMULA}"]
    assert {row["reason"] for row in rows} == {"held"}
    assert rows[0]["last_seen"].endswith("Z")


async def test_machines_are_chosen_and_a_wrong_choice_is_said(site: Path) -> None:
    done = await run(site, "machines", "--search", "WEB", "--state", "on hold", "--json")
    assert [m["alias"] for m in json.loads(done.out)["machines"]] == ["web"]
    done = await run(site, "machines", "--track", "stable")
    assert (done.status, done.out.startswith("no machine")) == (0, True)
    done = await run(site, "machines", "--state", "broken")
    assert done.status == 1
    assert "state" in done.err


async def test_without_a_mirror_it_says_what_to_do(tmp_path: Path, upstream: Upstream) -> None:
    MirrorProcess(tmp_path, upstream.origin)
    done = await run(tmp_path, "machines")
    assert (done.status, done.out) == (1, "")
    assert "start it" in done.err


async def test_a_machine_that_a_new_one_moves_to_the_next_page_is_listed_once(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = RunningMirror.ask
    async with MirrorProcess(tmp_path, upstream.origin) as mirror:

        async def another_comes(self: RunningMirror, method: str, path: str) -> Json:
            """Answer as ever; after the first page, a machine checks in that belongs on it."""
            page = await ask(self, method, path)
            if path.endswith("page=1"):
                await check_in(mirror, 2)
                while (await ask(self, "GET", "/api/v1/machines"))["total"] < 5:
                    pass
            return page

        for number in (1, 3, 4, 5):
            await check_in(mirror, number)
        await known(tmp_path, 4)
        monkeypatch.setattr(machines, "PER_PAGE", 2)
        monkeypatch.setattr(RunningMirror, "ask", another_comes)
        async with asyncio.timeout(PATIENCE):
            found = await machines._machines(load(tmp_path / "config.yaml", os.environ), {})
    assert [int(machine["machineid"]) for machine in found] == [1, 3, 4, 5]


CELLS = {
    "web-1": "web-1",
    "=1+1": "'=1+1",
    "+1": "'+1",
    "-1": "'-1",
    "@SUM(A1)": "'@SUM(A1)",
    "  =1": "'  =1",
    "\t=1": "\ufffd=1",
    "\r\n=1": "\ufffd\ufffd=1",
    "\x1b[31mred": "\ufffd[31mred",
    "\u202egnp.exe": "\ufffdgnp.exe",
}


@pytest.mark.parametrize("text", CELLS)
def test_no_cell_is_a_formula_or_holds_control_characters(text: str) -> None:
    assert cell("alias", text) == CELLS[text]


def test_numbers_and_times_stay_what_they_are() -> None:
    assert cell("errorcode", -2147483646) == "-2147483646"
    assert cell("errorcode", None) == ""
    assert cell("first_seen", 0.0) == "1970-01-01T00:00:00Z"
