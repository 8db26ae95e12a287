"""`export`: one file, from a mirror that runs or the directory of one that does not, and on from where it was broken off."""

import asyncio
import os
from pathlib import Path

import pytest

from omaha_mirror.omaha import FLATCAR_APP_ID
from tests.bundle.scene import release
from tests.cli.running import Done, begin, run
from tests.e2e.site import FLOORS, TARGET, Box, before
from tests.support.mirror import PAYLOAD, MirrorProcess
from tests.support.nebraska import Nebraska
from tests.support.talk import PATIENCE
from tests.support.upstream import Upstream

pytestmark = pytest.mark.long

ASKED = ("--track", "stable", "--oem", "azure")
FILE = f"/amd64-usr/{TARGET}/{PAYLOAD}"


@pytest.fixture
def nebraska(upstream: Upstream) -> Nebraska:
    return release(Nebraska(upstream))


def process(directory: Path, nebraska: Nebraska) -> MirrorProcess:
    return MirrorProcess(directory, nebraska.upstream.origin, **before(nebraska))


async def export(directory: Path, to: Path, *more: str) -> Done:
    return await run(directory, "export", *ASKED, "-o", str(to), *more)


async def test_what_is_not_here_is_fetched_first_and_once(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    out = tmp_path / "stable.tar"
    async with process(tmp_path, nebraska):
        done = await export(tmp_path, out)
        assert (done.status, done.out) == (0, "")
        assert f"downloading {PAYLOAD}, 40.0 kB\n" in done.err
        assert f"\nwriting {out}, " in done.err
        assert done.err.endswith(f"{out}: {out.stat().st_size / 1000:.1f} kB\n")
        first = out.read_bytes()
        again = await export(tmp_path, tmp_path / "again.tar")
        assert (again.status, (tmp_path / "again.tar").read_bytes()) == (0, first)
    assert upstream.bytes_sent(FILE) == 40_000


async def test_it_goes_on_where_it_was_broken_off(tmp_path: Path, nebraska: Nebraska) -> None:
    out, partial = tmp_path / "stable.tar", tmp_path / "stable.tar.partial"
    async with process(tmp_path, nebraska):
        await export(tmp_path, out)
        whole = out.read_bytes()
        for count in (600, 70_000, len(whole)):
            out.unlink()
            partial.write_bytes(whole[:count])
            done = await export(tmp_path, out)
            assert (done.status, out.read_bytes(), partial.exists()) == (0, whole, False)
            assert f"goes on at {count}" in done.err
        assert (await export(tmp_path, out)).status == 0
        assert out.read_bytes() == whole


@pytest.mark.parametrize("at", [3, 60_000])
async def test_a_file_that_is_no_part_of_it_is_left_alone(
    tmp_path: Path, nebraska: Nebraska, at: int
) -> None:
    out = tmp_path / "stable.tar"
    async with process(tmp_path, nebraska):
        await export(tmp_path, out)
        data = bytearray(out.read_bytes())
        data[at] ^= 1
        for size in (70_000, len(data)):
            out.write_bytes(data[:size])
            done = await export(tmp_path, out)
            assert done.status == 4
            assert out.read_bytes() == data[:size]
            assert f"{out} is something else, and was left alone" in done.err


async def test_another_bundle_is_not_gone_on_with(tmp_path: Path, nebraska: Nebraska) -> None:
    out, partial = tmp_path / "stable.tar", tmp_path / "stable.tar.partial"
    async with process(tmp_path, nebraska):
        await export(tmp_path, out)
        partial.write_bytes(out.read_bytes()[:70_000])
        out.unlink()
        more = ("--track", "stable", "--version", FLOORS[0], "-o", str(out))
        done = await run(tmp_path, "export", *more)
        assert (done.status, out.exists(), partial.exists()) == (4, False, False)
        assert "belongs to another bundle" in done.err
        assert (await run(tmp_path, "export", *more)).status == 0


async def test_it_is_split_and_goes_on_in_the_right_part(
    tmp_path: Path, nebraska: Nebraska
) -> None:
    out, part = tmp_path / "stable.tar", tmp_path / "parts.tar"
    async with process(tmp_path, nebraska):
        await export(tmp_path, out)
        whole = out.read_bytes()
        assert (await export(tmp_path, part, "--split", "50kB")).status == 0
        names = [f"parts.tar.{n:03}" for n in range(3)]
        assert sorted(name for name in os.listdir(tmp_path) if name.startswith("parts")) == names
        assert b"".join((tmp_path / name).read_bytes() for name in names) == whole
        (tmp_path / names[2]).unlink()
        os.truncate(tmp_path / names[1], 10_000)
        for name in names[:2]:
            (tmp_path / name).rename(tmp_path / name.replace(".tar.", ".tar.partial."))
        assert (await export(tmp_path, part, "--split", "50kB")).status == 0
        assert b"".join((tmp_path / name).read_bytes() for name in names) == whole
        done = await export(tmp_path, part, "--split", "40kB")
        assert (done.status, "parts of another size" in done.err) == (1, True)
        done = await export(tmp_path, part)
        assert (done.status, "parts of another size" in done.err) == (1, True)


async def test_standard_output_gets_the_same(tmp_path: Path, nebraska: Nebraska) -> None:
    out = tmp_path / "stable.tar"
    async with process(tmp_path, nebraska):
        await export(tmp_path, out)
        command = await begin(tmp_path, "export", *ASKED, "-o", "-")
        async with asyncio.timeout(PATIENCE):
            got, _ = await command.communicate()
        assert (command.returncode, got) == (0, out.read_bytes())


async def test_a_stopped_mirror_gives_what_is_there(
    tmp_path: Path, upstream: Upstream, nebraska: Nebraska
) -> None:
    out = tmp_path / "stable.tar"
    async with process(tmp_path, nebraska) as mirror:
        await Box(mirror).update()
        await mirror.terminate()
    done = await export(tmp_path, out)
    assert (done.status, out.exists()) == (3, False)
    assert "is not in the cache: start the mirror, which downloads it" in done.err
    async with process(tmp_path, nebraska) as mirror:
        await export(tmp_path, out)
        whole = out.read_bytes()
        await mirror.terminate()
    out.unlink()
    upstream.log.clear()
    done = await export(tmp_path, out)
    assert (done.status, out.read_bytes()) == (0, whole)
    assert upstream.log == []


async def test_the_exit_status_tells_what_is_missing(tmp_path: Path, nebraska: Nebraska) -> None:
    out = tmp_path / "x.tar"
    async with process(tmp_path, nebraska):
        done = await run(tmp_path, "export", "--track", "stable", "--oem", "nope", "-o", str(out))
        assert (done.status, "package of the OEM nope" in done.err) == (3, True)
        done = await export(tmp_path, out, "--board", "x86")
        assert (done.status, "board must be one of" in done.err) == (1, True)
        done = await export(tmp_path, out, "--split", "many")
        assert (done.status, "is not a size" in done.err) == (2, True)
        assert not out.exists()
        nebraska.groups[FLATCAR_APP_ID, "stable", "amd64-usr"].updates_enabled = False
        done = await run(tmp_path, "export", "--track", "beta", "-o", str(out))
        assert done.status == 3


async def test_rot_on_the_mirror_never_makes_a_bundle(tmp_path: Path, nebraska: Nebraska) -> None:
    out, partial = tmp_path / "stable.tar", tmp_path / "stable.tar.partial"
    async with process(tmp_path, nebraska):
        await export(tmp_path, tmp_path / "first.tar")
        [blob, *_] = [p for p in (tmp_path / "cache" / "blobs").glob("??/*") if not p.suffix]
        then = blob.stat().st_mtime_ns
        with blob.open("r+b") as file:
            right = file.read(6)
            file.seek(0)
            file.write(b"rotten")
        os.utime(
            blob, ns=(then, then)
        )  # as a disk rots: else the mirror sees another file, and mends it
        done = await export(tmp_path, out)
        assert (done.status, "is damaged: its SHA-256 is wrong" in done.err) == (4, True)
        assert (out.exists(), partial.exists()) == (False, False)
        assert "omaha-mirror cache verify" in done.err
        with blob.open("r+b") as file:
            file.write(right)
        assert (await export(tmp_path, out)).status == 0
        assert out.read_bytes() == (tmp_path / "first.tar").read_bytes()
