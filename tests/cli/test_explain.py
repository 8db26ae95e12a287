"""`explain`: why a machine is where it is, and what a request would be told."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from omaha_mirror.cli.main import cli
from omaha_mirror.omaha import Client, Machine, serialise_request
from tests.cli.running import Done, run
from tests.e2e.site import FLOORS, OLD, Box, before, three_steps
from tests.support.mirror import MirrorProcess
from tests.support.nebraska import Nebraska
from tests.support.talk import PATIENCE
from tests.support.upstream import Upstream

ID = f"{1:032x}"


@pytest.fixture
def request_file(tmp_path: Path) -> str:
    """A check of a machine that the mirror does not know."""
    client = Client(Machine(version=OLD, machineid="cd" * 16))
    path = tmp_path / "request.xml"
    path.write_bytes(serialise_request(client.check()))
    return str(path)


@pytest.fixture
async def site(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Path]:
    """The directory of a mirror that one machine has asked: it follows a Nebraska."""
    nebraska = Nebraska(upstream)
    three_steps(nebraska)
    async with MirrorProcess(tmp_path, upstream.origin, **before(nebraska)) as mirror:
        await Box(mirror, machinealias="web \x9b31m<b>").offer()
        yield tmp_path


async def explained(directory: Path, *args: str) -> Done:
    """As soon as the machine is known: what machines say is written behind."""
    async with asyncio.timeout(PATIENCE):
        while (done := await run(directory, "explain", *args)).status != 0:
            pass
    return done


async def test_a_machine_is_explained_by_the_beginning_of_its_id(site: Path) -> None:
    done = await explained(site, ID[:31])
    assert (done.status, done.err) == (0, "")
    assert f"Machine {ID}" in done.out
    assert f"It was offered {FLOORS[0]}." in done.out
    assert all(line.isprintable() for line in done.out.splitlines())
    told = json.loads((await run(site, "explain", ID, "--json")).out)
    assert told["explanation"] == done.out.splitlines()
    assert told["decisions"][0]["offered"] == FLOORS[0]


async def test_a_machine_that_nobody_knows_has_an_exit_status_of_its_own(site: Path) -> None:
    done = await run(site, "explain", "../nobody?x=1#\x1b[2J")
    assert (done.status, done.out) == (3, "")
    assert "nobody?x=1#" in done.err
    assert "\x1b" not in done.err


async def test_a_request_is_replayed_and_compared_with_upstream(
    site: Path, request_file: str
) -> None:
    done = await run(site, "explain", "--request", request_file, "--upstream")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[-2:] == [
        f"It would be offered {FLOORS[0]}.",
        f"Upstream offers {FLOORS[0]} as well.",
    ]
    done = await run(site, "explain", "--request", request_file, "--json")
    assert json.loads(done.out)["apps"][0]["upstream"] is None
    assert (await run(site, "explain", "cd" * 16)).status == 3


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        ((), 2, "give a MACHINE"),
        (("web", "--request", "x"), 2, "give a MACHINE"),
        (("web", "--upstream"), 2, "--upstream goes with --request"),
        (("--request", "/nowhere/request.xml"), 1, "No such file"),
        (("--request", "/dev/zero"), 1, "at most"),
    ],
)
def test_a_mistake_is_said(args: tuple[str, ...], status: int, words: str) -> None:
    done = CliRunner().invoke(cli, ["explain", *args])
    assert (done.exit_code, done.stdout) == (status, "")
    assert words in done.stderr
