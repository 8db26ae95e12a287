"""Standard error is full, closed, or read by nobody: machines are served as ever, and readiness says what is wrong."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from omaha_mirror.config import Address
from tests.support.broken_log import Broken, Pipe, broken
from tests.support.talk import PATIENCE, ask
from tests.support.upstream import Upstream
from tests.systemd.manager import SocketUnit, address_of, listening

BAD_CONFIG, FAILURE = 78, 1
TALKATIVE = (
    b'<?xml version="1.0"?><request protocol="3.0">'
    + b'<app appid="e96281a6-d1af-4bde-9a0a-97b76e56dc57" version="1.2.3" track="stable">'
    b'<event eventtype="3" eventresult="0" errorcode="9"/></app>' * 32 + b"</request>"
)
"""A request that is logged in many lines."""


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with ExitStack() as stack:
        yield Pipe(stack)


BROKEN = (
    "full",
    *(pytest.param(kind, marks=pytest.mark.long) for kind in ("closed", "unread", "gone")),
)


class Box(SocketUnit):
    """A mirror, and what monitoring sees of it."""

    admin: Address

    async def checks(self) -> dict[str, tuple[str, str]]:
        """The state and words of each check; the mirror is ready."""
        answer = await ask(self.admin, "GET", "/readyz", {"Host": "localhost"})
        assert answer.status == 200, answer.body
        told = json.loads(answer.body)
        assert told["state"] in ("ok", "degraded")
        return {check["name"]: (check["state"], check["words"]) for check in told["checks"]}

    async def until_log(self, state: str) -> str:
        """Wait until the log is in such a state; the words of it."""
        async with asyncio.timeout(PATIENCE):
            while (found := (await self.checks())["log"])[0] != state:
                await self.round_trips(1)
        return found[1]

    async def lost(self) -> dict[str, float]:
        """Lines that were lost, by why."""
        answer = await ask(self.admin, "GET", "/metrics", {"Host": "localhost"})
        name = "omaha_mirror_log_lines_dropped_total"
        lines = [line for line in answer.body.decode().splitlines() if line.startswith(name)]
        return {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines}

    async def serves(self, payload: bytes) -> None:
        """Whether machines get what they ask for."""
        answer = await self.get(await self.payload())
        assert (answer.status, answer.body) == (200, payload)
        assert (await self.get("/nothing")).status == 404
        assert (await self.post(b"this is no Omaha")).status == 400
        assert (await self.post(TALKATIVE)).status == 200

    async def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await self.process.wait() == 0


@pytest.fixture
async def box(release: Upstream, tmp_path: Path) -> AsyncIterator[Box]:
    """Not started yet."""
    with listening() as public, listening() as admin:
        sockets = {"omaha": public, "admin": admin}
        async with Box(tmp_path, release.origin, sockets, log={"level": "info"}) as box:
            box.admin = address_of(admin)
            yield box


@pytest.mark.parametrize("kind", BROKEN)
async def test_machines_are_served_whatever_becomes_of_the_log(
    box: Box, payload: bytes, kind: Broken
) -> None:
    with ExitStack() as stack:
        await box.start(broken(kind, stack))
        await box.serves(payload)
        words = await box.until_log("degraded")
        assert "standard error" in words
        if kind != "unread":
            assert (await box.lost())["write-failed"] > 0
        await box.serves(payload)
        await box.stop()


@pytest.mark.long
async def test_a_reader_that_leaves_meanwhile_ends_nothing(
    box: Box, payload: bytes, pipe: Pipe
) -> None:
    await box.start(pipe.theirs)
    await box.serves(payload)
    assert (await box.checks())["log"][0] == "ok"
    pipe.close(pipe.ours, pipe.theirs)
    await box.serves(payload)
    assert os.strerror(errno.EPIPE) in await box.until_log("degraded")
    await box.stop()


@pytest.mark.long
async def test_what_is_read_late_comes_whole_as_far_as_there_was_room_and_all_is_well_again(
    box: Box, payload: bytes, pipe: Pipe
) -> None:
    pipe.fill()
    await box.start(pipe.theirs)
    pipe.close(pipe.theirs)
    async with asyncio.timeout(PATIENCE):
        while not (await box.lost())["queue-full"]:
            assert (await box.post(TALKATIVE)).status == 200
    await box.serves(payload)
    await box.until_log("degraded")
    reading = asyncio.create_task(pipe.until(lambda read: b'"track": "after"' in read))
    await box.until_log("ok")
    await box.post(TALKATIVE.replace(b'"stable"', b'"after"'))
    lines = (await reading).lstrip(b".").splitlines()
    told = [json.loads(line) for line in lines[:-1] if line.startswith(b"{")]
    assert sum(line["event"] == "event" for line in told) > 1000
    lost = sum(line["lines"] for line in told if line["event"] == "lines of the log were lost")
    assert lost == (await box.lost())["queue-full"]
    await box.stop()


# A start that fails says so to nobody, and ends as it should


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("lisen: []\n", BAD_CONFIG),
        pytest.param(
            "listen: ['192.0.2.1:1']\nadmin: {listen: []}\n", FAILURE, marks=pytest.mark.long
        ),
    ],
)
def test_a_start_that_fails_ends_with_its_code_though_nobody_can_be_told(
    tmp_path: Path, kind: Broken, text: str, code: int
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"{text}cache: {{directory: {tmp_path}/c}}\nstate_directory: {tmp_path}/s\n")
    command = [sys.executable, "-m", "omaha_mirror", "serve", "--config", str(config)]
    with ExitStack() as stack:
        stderr = broken(kind, stack)
        if stderr is None:
            command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
        assert subprocess.run(command, check=False, stderr=stderr, timeout=60).returncode == code
