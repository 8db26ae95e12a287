"""`import`: into a mirror that runs, or the directory of one that does not."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from omaha_mirror.cache.lock import in_use
from tests.bundle.scene import NO_LINE, bundle_of, files_below, release
from tests.cli.running import Done, run
from tests.e2e.site import STEPS, TARGET, Box, body
from tests.payload.build import DATA, build, private_key
from tests.support.mirror import PAYLOAD, MirrorProcess, real_payload, settings
from tests.support.nebraska import Nebraska
from tests.support.upstream import Upstream

pytestmark = pytest.mark.long

KEY = DATA / "update-payload-key.pub.pem"
CHANGES = {"default_track": "follow", "tracks": {}}
LINE = f"stable amd64-usr: {' -> '.join(STEPS)}, 132.0 kB new\n"


@pytest.fixture
async def data(tmp_path: Path, upstream: Upstream) -> bytes:
    return await bundle_of(tmp_path, release(Nebraska(upstream)))


@pytest.fixture
def bundle(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "bundle.tar"
    path.write_bytes(data)
    return path


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The folder of a mirror without a line, which does not run."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(settings(folder, NO_LINE, **CHANGES)))
    return folder


@pytest.fixture(params=["running", "stopped"])
async def site(request: pytest.FixtureRequest, stopped: Path) -> AsyncIterator[Path]:
    """The same, and once it runs."""
    if request.param == "stopped":
        yield stopped
    else:
        async with MirrorProcess(stopped, NO_LINE, **CHANGES):
            yield stopped


def spoil(path: Path, at: int) -> None:
    """Flip a bit."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


async def update(site: Path) -> list[str]:
    """What a machine of the site comes to run; the mirror is started again before."""
    async with MirrorProcess(site, NO_LINE, **CHANGES) as mirror:
        box = Box(mirror)
        return [await box.update() for _ in STEPS]


async def import_(site: Path, *args: str | Path) -> Done:
    return await run(site, "import", *map(str, args))


async def test_a_bundle_is_taken_in_and_machines_are_offered_it(site: Path, bundle: Path) -> None:
    done = await import_(site, bundle)
    assert (done.status, done.out) == (0, LINE)
    done = await import_(site, bundle, "--json")
    assert json.loads(done.out) == {
        "track": "stable",
        "board": "amd64-usr",
        "versions": [*STEPS],
        "packages": 5,
        "added": 0,
        "leads": True,
    }
    if in_use(site / "cache") is None:
        assert await update(site) == [*STEPS]


async def test_a_running_mirror_offers_it_at_once(tmp_path: Path, bundle: Path) -> None:
    async with MirrorProcess(tmp_path, NO_LINE, **CHANGES) as mirror:
        box = Box(mirror)
        await box.nothing()
        assert (await import_(tmp_path, bundle)).status == 0
        assert [await box.update() for _ in STEPS] == [*STEPS]


async def test_standard_input_is_taken(site: Path, data: bytes) -> None:
    done = await run(site, "import", "-", given=data)
    assert (done.status, done.out) == (0, LINE)


async def test_parts_are_taken_in_order_or_by_their_common_name(
    stopped: Path, data: bytes, tmp_path: Path
) -> None:
    parts = [tmp_path / f"parts.tar.{number:03}" for number in range(3)]
    for number, part in enumerate(parts):
        part.write_bytes(data[number * 60_000 : (number + 1) * 60_000])
    done = await import_(stopped, parts[0], parts[1])
    assert (done.status, "is a part missing?" in done.err) == (4, True)
    done = await import_(stopped, parts[1], parts[0], parts[2])
    assert done.status == 4
    assert (await import_(stopped, tmp_path / "parts.tar")).out == LINE
    assert (await import_(stopped, *parts)).status == 0


async def test_a_damaged_bundle_changes_nothing(site: Path, data: bytes, bundle: Path) -> None:
    spoil(bundle, at=len(data) - 3000)
    done = await import_(site, bundle)
    assert (done.status, done.out) == (4, "")
    assert "is damaged" in done.err
    assert not [name for name in files_below(site) if name.startswith("cache/blobs")]


async def test_a_bundle_that_does_not_fit_is_refused(tmp_path: Path, bundle: Path) -> None:
    changes = {**CHANGES, "cache": {"max_size": 100_000}}
    async with MirrorProcess(tmp_path, NO_LINE, **changes):
        done = await import_(tmp_path, bundle)
        assert (done.status, "do not fit into a cache" in done.err) == (1, True)


async def test_a_folder_with_a_payload_is_taken(stopped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    (folder / "update.gz").write_bytes(body(TARGET))
    done = await import_(stopped, folder)
    assert (done.status, "add --track" in done.err) == (2, True)
    done = await import_(stopped, folder, "--track", "stable", "--version", TARGET)
    assert (done.status, done.out) == (0, f"stable amd64-usr: {TARGET}, 40.0 kB new\n")


@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
async def test_with_keys_a_folder_with_an_unsigned_payload_changes_nothing(
    tmp_path: Path, runs: bool
) -> None:
    folder, site = tmp_path / "stick", tmp_path / "site"
    for path in (folder, site):
        path.mkdir()
    changes = {**CHANGES, "upstream": {"public_keys": [str(KEY)]}}
    told = ("--track", "stable", "--version", TARGET)
    async with AsyncExitStack() as stack:
        process = MirrorProcess(site, NO_LINE, **changes)
        if runs:
            await stack.enter_async_context(process)
        for payload, words in (
            (build([b"data" * 500]), "it is not signed"),
            (
                build([b"data" * 500], signers=[(2, private_key("another"))]),
                "it is signed, and by none of the given keys",
            ),
        ):
            (folder / "update.gz").write_bytes(payload)
            done = await import_(site, folder, *told)
            assert (done.status, done.out) == (4, "")
            assert f"update.gz is refused: {words}" in done.err
        assert not [name for name in files_below(site) if name.startswith("cache/blobs")]
        (folder / "update.gz").write_bytes(real_payload())
        assert (await import_(site, folder, *told)).status == 0


async def test_what_breaks_off_here_is_told_as_what_it_is(stopped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    os.mkfifo(folder / "bundle.json")
    done = await import_(stopped, folder)
    assert (done.status, "is not a file" in done.err) == (1, True)
    done = await import_(stopped, tmp_path / "nowhere.tar")
    assert (done.status, "there is no" in done.err) == (3, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_the_files_of_a_stopped_mirror_keep_their_owner(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings(tmp_path, NO_LINE, **CHANGES)))
    for name in ("cache", "state"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, 4711, 4711)
    done = await import_(tmp_path, bundle)
    assert (done.status, "belongs to the user with the id 4711" in done.err) == (1, True)


async def test_gc_and_rm_on_a_stopped_mirror_keep_what_was_imported_and_is_offered(
    stopped: Path, bundle: Path
) -> None:
    assert (await run(stopped, "import", str(bundle))).status == 0
    catalog = stopped / "state" / "catalog.json"
    state = json.loads(catalog.read_text())
    for item in state["releases"]:
        item["last_used"] = 1.0  # long ago
    catalog.write_text(json.dumps(state))
    changes = CHANGES | {"cache": {"max_size": 1}}
    (stopped / "config.yaml").write_text(yaml.safe_dump(settings(stopped, NO_LINE, **changes)))
    done = await run(stopped, "cache", "gc", "--json")
    assert (done.status, done.json["removed"]) == (
        1,
        [],
    )  # there is no room, and all of it is offered
    before = files_below(stopped / "cache" / "blobs")
    key = sha256(body(TARGET)).hexdigest()
    done = await run(stopped, "cache", "rm", "--json", key)
    assert [item["key"] for item in done.json["removed"]] == [key]
    gone = before.keys() - files_below(stopped / "cache" / "blobs").keys()
    assert {Path(name).stem for name in gone} == {key}


async def test_fetch_finds_what_was_imported_without_an_omaha_server(
    stopped: Path, bundle: Path
) -> None:
    assert (await run(stopped, "import", str(bundle))).status == 0
    async with MirrorProcess(stopped, NO_LINE, **CHANGES):
        done = await run(stopped, "fetch", "stable", "--json")
    assert (done.status, done.err) == (0, "")
    last = {item["name"]: item for item in done.lines}
    assert [item for item in done.lines if item["error"]] == []
    assert last[PAYLOAD]["done"]
    assert len([item for item in done.lines if item["done"]]) >= len(STEPS)
