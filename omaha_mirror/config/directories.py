"""Where the mirror keeps things when the config does not say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omaha_mirror.config.yaml_marks import KeyPath

SOURCES: dict[KeyPath, tuple[str, str, str]] = {
    ("cache", "directory"): ("CACHE_DIRECTORY", "XDG_CACHE_HOME", ".cache"),
    ("state_directory",): ("STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state"),
}
"""What a directory that the config does not name is taken from: two variables, a folder in $HOME."""


def with_directories(data: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The data of a config with both directories named, or empty where nothing tells of one."""
    for path, sources in SOURCES.items():
        if _at(data, path) is None:
            data = put(data, path, _default(environ, *sources))
    return data


def put(data: dict[str, Any], path: KeyPath, value: object) -> dict[str, Any]:
    """The data with a value at a path; what stands there for a section and is none stays."""
    key, *below = map(str, path)
    if not below:
        return {**data, key: value}
    section = {} if data.get(key) is None else data[key]
    if not isinstance(section, dict):
        return data
    return {**data, key: put(section, tuple(below), value)}


def _at(data: object, path: KeyPath) -> object:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _default(environ: Mapping[str, str], systemd: str, xdg: str, below_home: str) -> Path | None:
    # systemd separates several directories by colons; the first one is the unit's own.
    if given := environ.get(systemd, "").partition(":")[0]:
        return Path(given)
    base = Path(environ.get(xdg, ""))
    if base.is_absolute():
        return base / "omaha-mirror"
    home = environ.get("HOME")
    return Path(home, below_home, "omaha-mirror") if home else None
