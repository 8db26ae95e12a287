"""The catalog's file: what comes back, what is refused, and what a crash leaves."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omaha_mirror.catalog import Step, UpstreamPolicy
from omaha_mirror.catalog.catalog_file import LIMIT, State, StoredRelease, load, save
from omaha_mirror.catalog.channel import Channel, ChannelKey, KeptChannel
from omaha_mirror.omaha import (
    AppResponse,
    Digest,
    Element,
    Response,
    UpdateCheck,
    Url,
    serialise_response,
)
from omaha_mirror.state_file import Damaged
from tests.catalog.scene import APP, BOARD, release, with_manifest

BASE = release("oem-azure.gz", learnt=12.5)
NEVER_SEEN = with_manifest(
    BASE,
    replace(
        BASE.manifest,
        is_floor=True,
        floor_reason='because of "<&>"',
        packages=tuple(
            replace(p, hash=Digest("sha1", bytes(20)), extra=(("signed", "yes"),))
            for p in BASE.manifest.packages
        ),
        actions=(replace(BASE.manifest.actions[0], deadline="now", extra=(("Later", "ä\n"),)),),
        extra=(("hue", "blue"), ("size", "007")),
        extra_elements=(Element("delta", (("from", "3815.2.0"),), "", (Element("x", (), "t"),)),),
    ),
)
NEVER_SEEN = replace(
    NEVER_SEEN,
    check=replace(
        NEVER_SEEN.check,
        urls=(*NEVER_SEEN.check.urls, Url(codebase="http://b.example/", extra=(("weight", "2"),))),
        extra=(("mood", "good"),),
    ),
)
KEPT = (
    StoredRelease(NEVER_SEEN, 99.25, frozenset({"oem-azure.gz", "oem-ami.gz"})),
    StoredRelease(release(version="3815.2.5-dev-main+x"), 1.0, frozenset(), current=False),
)
STEPS = (Step("3510.2.0", floor=True, seen=1.5), Step("3815.2.1", seen=2.5))
STATE = State(
    KEPT,
    upstream=(NEVER_SEEN, release(version="3510.2.0", learnt=7.0)),
    channels=(
        KeptChannel(
            ChannelKey(APP, BOARD, "stable"),
            Channel(STEPS, UpstreamPolicy.OFFERS, "", answered=4.0, walked=3.0),
            asked=5.0,
        ),
        KeptChannel(
            ChannelKey(APP, BOARD, "ä <&>"),
            Channel((), UpstreamPolicy.WITHDRAWN, "upstream's own words", 4.5),
            asked=6.0,
        ),
        KeptChannel(ChannelKey(APP, "arm64-usr", ""), Channel(), asked=6.5),
    ),
)


FEWER = State(KEPT[:1])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.json"


def test_what_is_saved_comes_back_whole(path: Path) -> None:
    save(path, STATE)
    found = load(path)
    assert found == STATE
    assert found.releases[0].release.learnt == 12.5
    assert found.upstream[1].learnt == 7.0


def test_no_file_is_nothing_known(path: Path) -> None:
    assert load(path) == State()


def change(data: dict[str, Any], *keys: Any, to: Any) -> None:
    for key in keys[:-1]:
        data = data[key]
    if to is ...:
        del data[keys[-1]]
    else:
        data[keys[-1]] = to


@pytest.mark.parametrize(
    ("keys", "to"),
    [
        (("format",), 3),
        (("format",), None),
        (("releases",), None),
        (("releases",), ["x"]),
        (("releases", 0), {}),
        (("releases", 0, "id"), "3815.2.1-00000000"),
        (("releases", 0, "board"), "arm64-usr"),
        (("releases", 0, "version"), "3815.2.2"),
        (("releases", 0, "urls"), {}),
        (("releases", 0, "urls"), 5),
        (("releases", 0, "looked_up"), None),
        (("releases", 0, "learnt"), "long ago"),
        (("releases", 0, "answer"), 5),
        (("releases", 0, "answer"), "<response"),
        (("releases", 0, "answer"), '<response protocol="3.0"></response>'),
        (("releases", 0, "answer"), '<response protocol="3.0"><app></app></response>'),
        (("told",), None),
        (("told", 0, "id"), "3815.2.1-00000000"),
        (("told", 0, "answer"), "<response"),
        (("channels",), {"x": 1}),
        (("channels", 0, "board"), ...),
        (("channels", 0, "policy"), "perhaps"),
        (("channels", 0, "answered"), "long ago"),
        (("channels", 0, "steps"), 5),
        (("channels", 0, "steps", 0, "version"), "newest"),
        (("channels", 0, "steps", 0, "version"), 5),
    ],
)
def test_what_was_altered_is_refused(path: Path, keys: tuple[Any, ...], to: Any) -> None:
    save(path, STATE)
    data = json.loads(path.read_text())
    change(data, *keys, to=to)
    path.write_text(json.dumps(data))
    with pytest.raises(Damaged, match=str(path)):
        load(path)


def test_the_format_before_is_read_and_its_manifests_get_their_source(path: Path) -> None:
    save(path, STATE)
    data = json.loads(path.read_text())
    for item, kept in zip(data["releases"], KEPT, strict=True):
        del item["answer"]
        check = UpdateCheck(status="ok", manifests=(kept.release.manifest,))
        app = AppResponse(appid=APP, update_check=check)
        item["manifest"] = serialise_response(Response(apps=(app,))).decode()
    path.write_text(json.dumps({"format": 1, "releases": data["releases"]}))
    found = load(path)
    assert (found.upstream, found.channels) == ((), ())
    for old, new in zip(KEPT, found.releases, strict=True):
        assert (new.last_used, new.looked_up, new.current) == (
            old.last_used,
            old.looked_up,
            old.current,
        )
        assert new.release.manifest == old.release.manifest
        assert new.release.id == old.release.id
        assert new.release.check.status == "ok"
        assert new.release.check.urls == old.release.check.urls[:1]


def test_an_altered_digest_is_refused(path: Path) -> None:
    save(path, STATE)
    digest = BASE.files[1].sha256
    assert digest is not None
    path.write_text(path.read_text().replace(digest.hex, "00" * 32))
    with pytest.raises(Damaged, match="was altered"):
        load(path)


def test_a_release_without_packages_is_refused(path: Path) -> None:
    save(path, STATE)
    data = json.loads(path.read_text())
    text = data["releases"][0]["answer"]
    start, stop = text.index("<packages>"), text.index("</packages>")
    data["releases"][0]["answer"] = text[:start] + text[stop + len("</packages>") :]
    path.write_text(json.dumps(data))
    with pytest.raises(Damaged):
        load(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda body: body[: len(body) // 2],
        lambda body: bytes(len(body)),
        lambda body: b"\xff" + body,
        lambda _: b"[" * 100_000,
        lambda _: b"[]",
        lambda body: body + b"}",
    ],
    ids=["empty", "cut", "zeroes", "no text", "nested", "another shape", "surplus"],
)
def test_a_damaged_file_is_refused(path: Path, damage: Callable[[bytes], bytes]) -> None:
    save(path, STATE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Damaged, match=str(path)):
        load(path)


def test_a_file_beyond_the_limit_is_not_read_whole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(LIMIT + 1)
    with pytest.raises(Damaged, match="bytes"):
        load(path)


def test_a_folder_in_its_place_is_damage(path: Path) -> None:
    path.mkdir()
    with pytest.raises(Damaged, match=r"catalog\.json"):
        load(path)


class CrashError(Exception):
    """The machine loses power here."""


@pytest.mark.parametrize(
    ("owner", "step"), [(os, "fsync"), (Path, "replace"), (json, "dumps")], ids=str
)
def test_a_crash_leaves_the_old_file_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise CrashError

    save(path, STATE)
    with monkeypatch.context() as power:
        power.setattr(owner, step, crash)
        with pytest.raises(CrashError):
            save(path, FEWER)
    assert load(path) == STATE
    save(path, FEWER)
    assert load(path) == FEWER


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_process_killed_while_it_saves_leaves_a_whole_file(path: Path, count: int) -> None:
    saving = """
import sys
from pathlib import Path
from omaha_mirror.catalog.catalog_file import save
from tests.catalog.test_catalog_file import FEWER, STATE
while True:
    for state in (STATE, FEWER):
        save(Path(sys.argv[1]), state)
        print("saved", flush=True)
"""
    arguments = [sys.executable, "-c", saving, str(path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(count):
            assert process.stdout.readline() == b"saved\n"
        process.kill()
    assert load(path) in (STATE, FEWER)


def test_a_name_is_given_only_to_bytes_that_are_synced(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def watched_fsync(fd: int) -> None:
        steps.append(f"sync {Path(os.readlink(f'/proc/self/fd/{fd}')).name}")
        fsync(fd)

    def watched_replace(self: Path, target: Path) -> Path:
        steps.append(f"rename {self.name} {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    save(path, STATE)
    assert steps == [
        "sync catalog.json.tmp",
        "rename catalog.json.tmp catalog.json",
        f"sync {path.parent.name}",
    ]
