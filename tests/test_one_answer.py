"""What is offered and where tracks lead has one answer: for machines and all who ask, running and stopped."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from omaha_mirror.bundle import ExportRequest
from omaha_mirror.catalog import BOARDS, Reason, Release, Step, UpstreamPolicy
from omaha_mirror.catalog.catalog_file import State, StoredRelease, save
from omaha_mirror.catalog.channel import Channel, ChannelKey, KeptChannel
from omaha_mirror.config import Config, Hold, Pin
from omaha_mirror.offline import Offline
from omaha_mirror.omaha import AppRequest, UpdateCheckRequest
from omaha_mirror.packages.source import expected
from omaha_mirror.policy.override_files import Override, kept, write
from omaha_mirror.policy.tracks import TrackPath
from omaha_mirror.service import Service
from omaha_mirror.web.admin.page import tracks_and_cache
from omaha_mirror.web.admin.tracks_api import TracksApi
from tests.catalog.scene import APP, package, release
from tests.observability.exposed import series
from tests.support import mirror as support

NOW = time.time()
HOUR, MONTH = 3600.0, 30 * 86400.0
VERSIONS = ("1.0.0", "2.0.0", "3.0.0", "4.0.0")
TRACKS = ("beta", "prod", "stable")
RULES: tuple[Any, ...] = (
    "follow",
    "hold",
    {"mode": "follow", "delay": "48h"},
    {"mode": "follow", "max_version": "2.5.0"},
    {"mode": "follow", "upstream_track": "stable"},
    "3.0.0",
    {"version": "3.0.0", "skip_floors": True},
    {"version": "4.0.0", "packages": ["oem-azure.gz"]},
)


def made(board: str, version: str) -> Release:
    """A release of its own bytes."""
    plain = release(version=version)
    payload = package("update.gz", f"{board} {version}".encode())
    manifest = replace(plain.manifest, packages=(payload,))
    return replace(plain, board=board, check=replace(plain.check, manifests=(manifest,)))


@st.composite
def channels(draw: st.DrawFn) -> tuple[KeptChannel, ...]:
    found = []
    for board in BOARDS:
        for track in draw(st.sets(st.sampled_from(TRACKS))):
            versions = draw(st.lists(st.sampled_from(VERSIONS), unique=True, max_size=4))
            steps = tuple(
                Step(
                    version,
                    floor=draw(st.booleans()),
                    seen=NOW - draw(st.sampled_from((HOUR, MONTH))),
                )
                for version in sorted(versions)
            )
            policy = draw(
                st.sampled_from(
                    (UpstreamPolicy.OFFERS, UpstreamPolicy.OFFERS, UpstreamPolicy.WITHDRAWN)
                )
            )
            channel = Channel(steps, policy, answered=NOW - HOUR)
            found.append(KeptChannel(ChannelKey(APP, board, track), channel, NOW - HOUR))
    return tuple(found)


@st.composite
def states(draw: st.DrawFn) -> State:
    releases = tuple(
        StoredRelease(
            made(board, version),
            NOW - draw(st.sampled_from((HOUR, MONTH))),
            looked_up=frozenset(draw(st.sets(st.just("oem-azure.gz")))),
            current=draw(st.sampled_from((True, True, True, False))),
            imported=draw(st.booleans()),
        )
        for board in BOARDS
        for version in sorted(draw(st.sets(st.sampled_from(VERSIONS))))
    )
    return State(releases, (), draw(channels()), draw(channels()))


rules = st.dictionaries(st.sampled_from(TRACKS), st.sampled_from(RULES))
overrides = st.dictionaries(
    st.sampled_from(TRACKS), st.sampled_from((Hold(), Pin(version="2.0.0")))
)


def app(track: str, board: str, version: str) -> AppRequest:
    return AppRequest(
        appid=APP, board=board, track=track, version=version, update_check=UpdateCheckRequest()
    )


class Scene:
    """A mirror's directories with what it knew, and one blob for each release."""

    def __init__(self, folder: Path, state: State, given: dict[str, Any], **changes: Any) -> None:
        self.config = Config.model_validate(
            support.settings(
                folder,
                "http://127.0.0.1:9",
                default_track="follow",
                tracks=given,
                **changes,
            )
        )
        self.state = self.config.state_directory
        self.state.mkdir()
        save(self.state / "catalog.json", state)
        for item in state.releases:
            key = expected(item.release.payload).key
            blob = self.config.cache.directory / "blobs" / key[:2] / key
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(b"xx")

    def override(self, given: dict[str, Hold | Pin]) -> None:
        paths = self.state / "overrides.json", self.state / "overrides-copy.json"
        write(paths, kept(Override(track=t, rule=rule, since=1.0) for t, rule in given.items()))


def led(path: TrackPath) -> list[str]:
    """The versions that machines get one after the other now, by the path."""
    versions = []
    for step in path.status.steps:
        if step.state is not Reason.OFFERED:
            break
        versions.append(step.version)
    return versions


def walked(service: Service, track: str, board: str) -> list[str]:
    """The versions that a machine gets one after the other, by what it is told."""
    versions: list[str] = []
    while True:
        told = service.decisions.dry_run(app(track, board, versions[-1] if versions else "0.1.0"))
        assert told is not None
        if told.release is None:
            return versions
        assert told.release.version not in versions
        versions.append(told.release.version)


def telling(paths: Sequence[TrackPath]) -> list[Any]:
    return [
        (path.status.track, path.status.board, path.status.steps, path.status.reason, path.due)
        for path in paths
    ]


async def agree(scene: Scene) -> None:
    service = Service(scene.config)
    await service.open()
    try:
        paths = await service.tracks.paths(TRACKS)
        await shown(service, paths)
        blobs = {b.key: b.offered for b in (await service.cache.contents()).blobs}
        service._ledger.max_size = 2 * sum(blobs.values())
        evicted = {gone.key for gone in (await service.cache.gc(dry_run=True)).removed}
    finally:
        await service.close()
    offline = Offline(scene.config)
    async with offline.looking():
        assert telling(await offline.tracks.paths(TRACKS)) == telling(paths)
        assert {b.key: b.offered for b in (await offline.cache.contents()).blobs} == blobs
    assert evicted == {key for key, offered in blobs.items() if not offered}
    async with Offline(scene.config).working() as worked:
        for path in paths:
            if path.due and all(step.known.release is not None for step in path.due):
                wish = ExportRequest(path.status.track, path.status.board)
                entries = (await worked.exporter.bundle(wish)).entries
                assert [entry.release.version for entry in entries] == [s.version for s in path.due]


async def shown(service: Service, paths: Sequence[TrackPath]) -> None:
    """Machines, page, API, metrics and readiness tell what the paths tell."""
    by = {(path.status.track, path.status.board): path for path in paths}
    for track in TRACKS:
        for board in BOARDS:
            path = by.get((track, board))
            assert walked(service, track, board) == (led(path) if path is not None else [])
        views = tracks_and_cache.tracks(paths, (), None, service.rules, {}, NOW)
    api = TracksApi(service)
    found = {f.name: f.words for f in (await service.examine()).findings}
    metrics = series(service.metrics)
    keys = {expected(f).key for r in service.offered.releases() for f in r.files}
    for view, path in zip(views, paths, strict=True):
        offered = path.offered.version if path.offered is not None else None
        assert (view.track, view.board) == (path.status.track, path.status.board)
        assert (view.offered == offered) is (offered is not None)
        [*told] = [
            item.version
            for item in api._info(view.track, await service.tracks.of(view.track)).offered
            if item.board == view.board
        ]
        assert told == ([offered] if offered is not None else [])
        labels = {"app_id": APP, "board": view.board, "track": view.track}
        count = metrics["omaha_mirror_track_offers", frozenset(labels.items())]
        assert count == sum(step.state is Reason.OFFERED for step in path.status.steps)
        assert f"track {view.track} {view.board}" in found
        for step in path.steps:
            if (known := step.known.release) is not None:
                assert {expected(file).key for file in known.files} <= keys


@settings(max_examples=20, deadline=None, derandomize=True, phases=[Phase.generate])
@given(states(), rules, overrides, st.booleans())
def test_all_who_ask_are_told_the_same(
    state: State, given: dict[str, Any], put: dict[str, Hold | Pin], follows: bool
) -> None:
    url = "http://127.0.0.1:9/update" if follows else None
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), state, given, upstream={"omaha_url": url})
        scene.override(put)
        asyncio.run(agree(scene))


class Counted:
    """A function that counts its calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.calls = 0
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self._function(*args, **kwargs)


@pytest.fixture
async def many(tmp_path: Path) -> AsyncIterator[Service]:
    """A mirror with one release and a thousand overrides: half of them pins to it, half of them holds."""
    held = StoredRelease(made(BOARDS[0], "1.0.0"), NOW - HOUR)
    scene = Scene(tmp_path, State((held,), (), (), ()), {})
    rules = (Hold(), Pin(version="1.0.0"))
    scene.override({f"t{n}": rules[n % 2] for n in range(1000)})
    service = Service(scene.config)
    await service.open()
    yield service
    await service.close()


async def test_a_rule_that_leads_to_the_same_on_many_tracks_is_followed_once(
    many: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Counted(many.catalog.steps)
    monkeypatch.setattr(many.catalog, "steps", steps)
    paths = await many.tracks.paths()
    assert {path.status.track for path in paths} == {f"t{n}" for n in range(1, 1000, 2)}
    assert all(path.offered is not None for path in paths)
    assert steps.calls < 10
    many.catalog._changed()
    steps.calls = 0
    assert len(many.offered.led()) == 2
    assert steps.calls < 10


async def test_where_many_tracks_lead_is_worked_out_in_slices(many: Service) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    working = asyncio.create_task(others())
    paths = await many.tracks.paths()
    working.cancel()
    assert turns >= len(paths) / 50 >= 10


async def test_whether_a_blob_is_offered_is_worked_out_once_for_all_who_ask(
    many: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = Counted(many.catalog.current)
    monkeypatch.setattr(many.catalog, "current", current)
    [release] = many.offered.releases()
    key = expected(release.payload).key
    assert all(many.offered(key) for _ in range(1000))
    assert not any(many.offered(f"{n:064x}") for n in range(1000))
    many.catalog.package(release.id, "update.gz")
    assert many.offered.with_payload(key) == (release,)
    assert current.calls == 1
    many.catalog._changed()
    assert many.offered(key)
    assert current.calls == 2
