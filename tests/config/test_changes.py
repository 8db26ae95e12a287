from pathlib import Path

import pytest

from omaha_mirror.config import Changes, Config, changes, load
from omaha_mirror.config.changes import APPLIED_AT_ONCE
from omaha_mirror.config.section import keys


def config(folder: Path, text: str) -> Config:
    path = folder / "config.yaml"
    path.write_text(text)
    return load(path, {"HOME": "/h"})


def test_the_same_config_changes_nothing(tmp_path: Path) -> None:
    old = config(tmp_path, "tracks: {a: hold}")
    assert changes(old, config(tmp_path, "tracks: {'a': 'hold'} # said otherwise")) == Changes()


@pytest.mark.parametrize(
    ("text", "applied", "restart"),
    [
        ("tracks: {a: hold}", ["tracks"], []),
        ("default_track: relay", ["default_track"], []),
        ("log: {level: debug}", ["log.level"], []),
        ("upstream: {rate_limit: 1MiB, max_fills: 5}", ["max_fills", "rate_limit"], []),
        ("listen: [':1']", [], ["listen"]),
        ("admin: {listen: []}", [], ["admin.listen"]),
        (
            "cache: {max_size: 1GB, directory: /x}\nlog: {format: json, level: error}",
            ["cache.max_size", "log.level"],
            ["cache.directory", "log.format"],
        ),
    ],
)
def test_each_changed_key_is_applied_or_waits_for_a_restart(
    tmp_path: Path, text: str, applied: list[str], restart: list[str]
) -> None:
    found = changes(config(tmp_path, ""), config(tmp_path, text))
    assert [name.removeprefix("upstream.") for name in found.applied] == applied
    assert list(found.restart) == restart


def test_only_keys_of_the_config_are_applied_at_once() -> None:
    assert set(map(".".join, keys(Config))) > APPLIED_AT_ONCE
