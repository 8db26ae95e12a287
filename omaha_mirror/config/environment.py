"""What the environment says: values of the config, its directories, and the proxy that an address is asked through.

As curl reads the proxies: a name in lower case goes before the one in upper case, all_proxy stands in for one that is not
set, and a variable that is set and empty means no proxy.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from omaha_mirror.config import urls, yaml_marks
from omaha_mirror.config.errors import Problem, did_you_mean
from omaha_mirror.config.model import Config
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
            inside = next((key for key in known if key.startswith(f"{rest}__")), None)
            if inside is not None:
                yield Problem(name, f"a variable names one key of a section, as {PREFIX}{inside}")
                continue
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


PORTS = {"http": 80, "https": 443}


def proxy_of(url: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The variable that names the proxy for an http(s) URL, and its value as a URL; None without a proxy."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
    if exempt(host, port, _first(environ, "no_proxy")[1]):
        return None
    name, value = _first(environ, f"{parts.scheme}_proxy", "all_proxy")
    value = value.strip()
    return (name, value if "://" in value else f"http://{value}") if value else None


def exempt(host: str, port: int, no_proxy: str) -> bool:
    """Whether a host needs no proxy.

    Args:
        host: its name or IP address, without brackets.
        port: of the server.
        no_proxy: names, which stand for all below them too, IP addresses and networks, each with or without a port;
            between them commas or blanks. `*` is every host.
    """
    return any(_matches(entry, host, port) for entry in re.split(r"[,\s]+", no_proxy) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    name, only = _without_port(entry.lower())
    if only not in (None, port):
        return False
    address = _address(host)
    try:
        network = ipaddress.ip_network(name, strict=False)
    except ValueError:
        plain, asked = name.removeprefix("*").strip("."), host.lower().rstrip(".")
        return address is None and bool(plain) and f".{asked}".endswith(f".{plain}")
    return address is not None and address in network


def _without_port(entry: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"\[(?P<v6>[^\]]*)\](?P<length>/\d+)?(?::(?P<port>\d+))?", entry)
    if found is not None:
        return found["v6"] + (found["length"] or ""), int(found["port"]) if found["port"] else None
    name, colon, port = entry.rpartition(":")
    if colon and ":" not in name and port.isascii() and port.isdecimal():
        return name, int(port)
    return entry, None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _first(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    """The first variable that is set."""
    for name in names:
        for written in (name, name.upper()):
            if written in environ:
                return written, environ[written]
    return names[0], ""
