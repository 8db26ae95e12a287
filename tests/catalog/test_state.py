"""The catalog's file: what comes back, what is refused, and what a crash leaves."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from omaha_mirror.catalog.state import LIMIT, BadState, Kept, load, save
from omaha_mirror.omaha import Digest, Element
from tests.catalog.scene import release

BASE = release("oem-azure.gz", learnt=12.5)
NEVER_SEEN = replace(
    BASE,
    manifest=replace(
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
KEPT = [
    Kept(NEVER_SEEN, 99.25, frozenset({"oem-azure.gz", "oem-ami.gz"})),
    Kept(release(version="3815.2.5-dev-main+x"), 1.0, frozenset(), current=False),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.json"


def test_what_is_saved_comes_back_whole(path: Path) -> None:
    save(path, KEPT)
    found = load(path)
    assert found == KEPT
    assert found[0].release.learnt == 12.5


def test_no_file_is_nothing_known(path: Path) -> None:
    assert load(path) == []


def change(data: dict[str, Any], *keys: Any, to: Any) -> None:
    for key in keys[:-1]:
        data = data[key]
    data[keys[-1]] = to


@pytest.mark.parametrize(
    ("keys", "to"),
    [
        (("format",), 2),
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
        (("releases", 0, "manifest"), 5),
        (("releases", 0, "manifest"), "<response"),
        (("releases", 0, "manifest"), '<response protocol="3.0"></response>'),
        (("releases", 0, "manifest"), '<response protocol="3.0"><app></app></response>'),
    ],
)
def test_what_was_altered_is_refused(path: Path, keys: tuple[Any, ...], to: Any) -> None:
    save(path, KEPT)
    data = json.loads(path.read_text())
    change(data, *keys, to=to)
    path.write_text(json.dumps(data))
    with pytest.raises(BadState, match=str(path)):
        load(path)


def test_an_altered_digest_is_refused(path: Path) -> None:
    save(path, KEPT)
    digest = BASE.files[1].sha256
    assert digest is not None
    path.write_text(path.read_text().replace(digest.hex, "00" * 32))
    with pytest.raises(BadState, match="was altered"):
        load(path)


def test_a_release_without_packages_is_refused(path: Path) -> None:
    save(path, KEPT)
    data = json.loads(path.read_text())
    text = data["releases"][0]["manifest"]
    start, stop = text.index("<packages>"), text.index("</packages>")
    data["releases"][0]["manifest"] = text[:start] + text[stop + len("</packages>") :]
    path.write_text(json.dumps(data))
    with pytest.raises(BadState):
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
    save(path, KEPT)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadState, match=str(path)):
        load(path)


def test_a_file_beyond_the_limit_is_not_read_whole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(LIMIT + 1)
    with pytest.raises(BadState, match="bytes"):
        load(path)


def test_a_file_that_cannot_be_read_is_no_damage(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OSError, match=r"catalog\.json"):
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

    save(path, KEPT)
    with monkeypatch.context() as power:
        power.setattr(owner, step, crash)
        with pytest.raises(CrashError):
            save(path, KEPT[:1])
    assert load(path) == KEPT
    save(path, KEPT[:1])
    assert load(path) == KEPT[:1]


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
    save(path, KEPT)
    assert steps == [
        "sync catalog.json.tmp",
        "rename catalog.json.tmp catalog.json",
        f"sync {path.parent.name}",
    ]
