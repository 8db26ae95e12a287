"""Chunks become batches, one write at a time."""

import asyncio

import pytest

from omaha_mirror.cache.write_behind import WriteBehind


class Disk:
    """Takes batches, each when the test lets it."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.writing = 0
        self.began = asyncio.Event()
        self.passable = asyncio.Semaphore(0)
        self.failure: OSError | None = None

    async def write(self, batch: list[bytes]) -> None:
        assert self.writing == 0, "one write at a time"
        self.writing += 1
        self.began.set()
        try:
            await self.passable.acquire()
            if self.failure is not None:
                raise self.failure
            self.batches.append(batch)
        finally:
            self.writing -= 1

    def let(self, batches: int = 9) -> None:
        for _ in range(batches):
            self.passable.release()


@pytest.fixture
async def disk() -> Disk:
    return Disk()


async def test_what_comes_during_a_write_goes_with_the_next(disk: Disk) -> None:
    behind = WriteBehind(disk.write, 100)
    await behind.put(b"a")
    await disk.began.wait()
    await behind.put(b"b")
    await behind.put(b"c")
    assert behind.pending == 3
    disk.let()
    await behind.close()
    assert disk.batches == [[b"a"], [b"b", b"c"]]
    assert behind.pending == 0


async def test_put_goes_on_after_a_pause(disk: Disk) -> None:
    behind = WriteBehind(disk.write, 100)
    disk.let()
    await behind.put(b"a")
    await behind.close()
    await behind.put(b"b")
    await behind.close()
    assert disk.batches == [[b"a"], [b"b"]]


async def test_a_full_buffer_pushes_back(disk: Disk) -> None:
    behind = WriteBehind(disk.write, 2)
    await behind.put(b"a")
    put = asyncio.create_task(behind.put(b"b"))
    await disk.began.wait()
    assert not put.done()
    disk.let()
    await put
    assert (behind.pending, disk.batches) == (0, [[b"a"], [b"b"]])


async def test_closing_an_unused_one_is_nothing(disk: Disk) -> None:
    await WriteBehind(disk.write, 1).close()
    assert disk.batches == []


async def test_a_write_error_surfaces_at_close(disk: Disk) -> None:
    behind = WriteBehind(disk.write, 100)
    disk.failure = OSError("full")
    disk.let()
    await behind.put(b"a")
    with pytest.raises(OSError, match="full"):
        await behind.close()


async def test_a_write_error_surfaces_at_the_next_put(disk: Disk) -> None:
    behind = WriteBehind(disk.write, 1)
    disk.failure = OSError("full")
    disk.let()
    with pytest.raises(OSError, match="full"):
        await behind.put(b"a")
    with pytest.raises(OSError, match="full"):
        await behind.put(b"b")
    with pytest.raises(OSError, match="full"):
        await behind.close()


@pytest.mark.parametrize("phase", ["put", "close"])
async def test_a_cancelled_caller_leaves_no_write_running(disk: Disk, phase: str) -> None:
    behind = WriteBehind(disk.write, 2)

    async def work() -> None:
        await behind.put(b"a")
        await (behind.put(b"b") if phase == "put" else behind.close())

    task = asyncio.create_task(work())
    await disk.began.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert disk.writing == 1
    assert not task.done(), "it waits for the write under way"
    disk.let()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert disk.writing == 0
    assert behind.pending == 0
