"""A bundle is a plain tar that ordinary tools read, and each has exactly one form."""

import io
import random
import subprocess
import tarfile
from pathlib import Path

from omaha_mirror.bundle.model import read_bundle
from tests.bundle.scene import AZURE, PODMAN, WISH, exported, made, with_line
from tests.e2e.site import STEPS, body
from tests.support.mirror import PAYLOAD
from tests.support.nebraska import Nebraska


def test_the_description_comes_first_and_packages_have_sidecars(bundle: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
        members = tar.getmembers()
        text = tar.extractfile("bundle.json")
        assert text is not None
        described = read_bundle(text.read())
        found = {
            member.file.name: tar.extractfile(member.path).read()  # type: ignore[union-attr]
            for member in described.members
        }
    names = [member.name for member in members]
    expected = ["bundle.json", *(member.path for member in described.members)]
    assert names == [name for path in expected for name in (path, f"{path}.sha256")]
    assert all(member.isfile() and member.mode == 0o644 for member in members)
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(0, 0, "")}
    assert [entry.release.version for entry in described.entries] == [*STEPS]
    assert [entry.floor for entry in described.entries] == [True, True, False]
    assert found["oem-azure.gz"] == AZURE
    assert found["flatcar-podman.gz"] == PODMAN
    assert found[PAYLOAD] == body(STEPS[-1])


def test_tar_unpacks_it_and_sha256sum_finds_it_right(tmp_path: Path, bundle: bytes) -> None:
    subprocess.run(["tar", "-x", "-C", tmp_path], input=bundle, check=True)
    sidecars = sorted(tmp_path.rglob("*.sha256"))
    assert len(sidecars) == 6
    for sidecar in sidecars:
        done = subprocess.run(
            ["sha256sum", "--strict", "-c", sidecar.name],
            cwd=sidecar.parent,
            capture_output=True,
            check=True,
        )
        assert done.stdout.endswith(b": OK\n")


async def test_any_offset_gives_the_rest(tmp_path: Path, nebraska: Nebraska) -> None:
    async with with_line(tmp_path, nebraska) as mirror:
        whole = await exported(mirror)
        exporter = mirror.service.exporter
        bundle = await made(mirror, WISH)
        rng = random.Random(1)
        for offset in (0, 1, 511, 512, len(whole) - 1, *rng.sample(range(len(whole)), 30)):
            rest = b"".join([chunk async for chunk in exporter.stream(bundle, offset)])
            assert rest == whole[offset:]
        assert [chunk async for chunk in exporter.stream(bundle, len(whole))] == []
