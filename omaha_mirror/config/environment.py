"""The environment: a variable for each key of the config, which overrides the file, and the default directories.

The name is OMAHA_MIRROR_ and the keys that lead to the value, in upper case, with two underscores
between them: OMAHA_MIRROR_UPSTREAM__RATE_LIMIT. The value is YAML, as it would stand after the
key in the file. An empty variable counts as not set.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omaha_mirror.config import urls, yaml_marks
from omaha_mirror.config.errors import Problem, did_you_mean
from omaha_mirror.config.model import Config
from omaha_mirror.config.proxies import proxy_of
from omaha_mirror.config.section import keys
from omaha_mirror.config.yaml_marks import Document, KeyPath

PREFIX = "OMAHA_MIRROR_"
VARIABLES = {PREFIX + "__".join(path).upper(): path for path in keys(Config)}
"""The name of each variable, and the path of its key."""

DIRECTORIES: dict[KeyPath, tuple[str, str, str]] = {
    ("cache", "directory"): ("CACHE_DIRECTORY", "XDG_CACHE_HOME", ".cache"),
    ("state_directory",): ("STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state"),
}
"""The source of each directory that the config does not name: two variables, else a folder in $HOME."""

_KUBERNETES = re.compile(r"(SERVICE_(HOST|PORT(_.+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?)?)")
"""The variables that Kubernetes sets in every pod beside a service named omaha-mirror, without the prefix."""


def given(environ: Mapping[str, str]) -> list[str]:
    """The variables that set a key, in the order of the model."""
    return [name for name in VARIABLES if environ.get(name, "").strip()]


def documents(environ: Mapping[str, str]) -> list[Document]:
    """The values of the variables, each a document at the path of its key."""
    return [yaml_marks.read(name, environ[name], VARIABLES[name]) for name in given(environ)]


def wrong_proxies(config: Config, environ: Mapping[str, str]) -> list[Problem]:
    """The proxies of the environment for upstream's servers that cannot be used."""
    found = {}
    for url in (config.upstream.omaha_url, config.upstream.release_url):
        named = (
            proxy_of(url, environ) if url is not None and config.upstream.proxy is None else None
        )
        if named is None:
            continue
        name, proxy = named
        try:
            urls.proxy(proxy)
        except ValueError as error:
            found[name] = Problem(
                name, f"{error}; upstream.proxy overrides it, and with no_proxy=* there is none"
            )
    return list(found.values())


def unknown(environ: Mapping[str, str]) -> Iterator[Problem]:
    """The variables with the prefix that belong to no key."""
    known = [name.removeprefix(PREFIX) for name in VARIABLES]
    for name in sorted(environ.keys() - VARIABLES.keys()):
        rest = name.removeprefix(PREFIX)
        if rest != name and not _KUBERNETES.fullmatch(rest):
            near = did_you_mean(rest.upper(), known, PREFIX)
            yield Problem(name, f"no key of the config has this variable{near}")


def with_directories(data: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The data of a config with both directories; without one that no variable names."""
    for path, sources in DIRECTORIES.items():
        if _at(data, path) is None:
            data = put(data, path, _default(environ, *sources))
    return data


def put(data: dict[str, Any], path: KeyPath, value: object) -> dict[str, Any]:
    """The data with a value at a path, unless a value that is no mapping is in its way."""
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
