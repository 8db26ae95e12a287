"""Threads that wait for disks: one that hangs holds up whoever waits for it for a while, and nobody else."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import BytesIO

import pytest

from omaha_mirror.aio.workers import Hangs, Workers

SOON = 0.05


@pytest.fixture
def disk() -> Iterator["Disk"]:
    disk = Disk()
    yield disk
    disk.answers.set()


class Disk:
    """Answers nobody before it is told to."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked = threading.Semaphore(0)
        self.file = BytesIO(b"late")

    def open(self) -> BytesIO:
        self.asked.release()
        self.answers.wait()
        return self.file


async def test_results_and_errors_come_back() -> None:
    workers = Workers(2, "x")
    assert await asyncio.gather(*(workers.call(pow, 2, n) for n in range(20))) == [
        2**n for n in range(20)
    ]
    with pytest.raises(ZeroDivisionError):
        await workers.patiently(60.0, divmod, 1, 0)
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(workers, pow, 2, 3) == 8
    workers.shutdown()


async def test_one_that_hangs_is_told_and_its_late_result_is_closed(disk: Disk) -> None:
    workers = Workers(2, "the disk")
    with pytest.raises(Hangs, match="the disk does not answer") as caught:
        await workers.patiently(SOON, disk.open)
    assert workers.hanging(SOON) == 1
    assert not workers.are_lost(SOON)
    assert await workers.patiently(60.0, pow, 2, 3) == 8, "the other thread works"
    work = caught.value.work
    assert work is not None
    disk.answers.set()
    await asyncio.wrap_future(work)
    while workers.hanging(SOON):  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)
    assert disk.file.closed


async def test_when_all_hang_nobody_waits_any_more(disk: Disk) -> None:
    workers = Workers(2, "the disk")
    begun = [asyncio.create_task(workers.patiently(SOON, disk.open)) for _ in range(5)]
    for outcome in await asyncio.gather(*begun, return_exceptions=True):
        assert isinstance(outcome, Hangs)
    assert workers.are_lost(SOON)
    with pytest.raises(Hangs) as caught:
        await workers.patiently(SOON, pow, 2, 3)
    assert caught.value.work is None
    disk.answers.set()
    assert await workers.call(pow, 2, 3) == 8
    while workers.are_lost(SOON):  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)
    assert await workers.patiently(60.0, pow, 2, 3) == 8


def test_a_spare_thread_works_until_those_that_hang_are_back(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers, other = Workers(1, "the disk", spare=1), Disk()
    hung = workers.submit(disk.open)
    disk.asked.acquire()
    monkeypatch.setattr("omaha_mirror.aio.workers.PATIENCE", 0.0)
    workers.submit(other.open)
    other.asked.acquire()
    last = workers.submit(pow, 2, 3)
    other.answers.set()
    assert last.result(timeout=60) == 8
    disk.answers.set()
    assert hung.result(timeout=60) is disk.file


async def test_who_is_cancelled_leaves_when_the_call_has_ended(disk: Disk) -> None:
    workers = Workers(1, "the disk")
    waiting = asyncio.create_task(workers.call(disk.open))
    await asyncio.to_thread(disk.asked.acquire)
    for _ in range(3):
        waiting.cancel()
        await asyncio.sleep(0)
    assert not waiting.done()
    disk.answers.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert disk.file.closed


async def test_who_is_cancelled_leaves_when_the_disk_hangs(disk: Disk) -> None:
    waiting = asyncio.create_task(Workers(1, "the disk").patiently(SOON, disk.open))
    await asyncio.to_thread(disk.asked.acquire)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not disk.answers.is_set()


def test_a_thread_that_never_comes_back_keeps_no_process_from_ending() -> None:
    script = (
        "import threading; from omaha_mirror.aio.workers import BLOBS;"
        "BLOBS.submit(threading.Event().wait); print('ends')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "ends\n"
