"""The config in words, as a file, and as data."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from omaha_mirror.config import Config, Follow, Hold, Pin, Relay, Track, load, load_to_serve, units
from omaha_mirror.config.environment import VARIABLES, given

PORTLESS = (
    "trusted_proxies without public_url: machines are told the host and port that the proxy passes on (X-Forwarded-Host,"
    " X-Forwarded-Port, X-Forwarded-Proto, else Host); where it leaves the port out, set public_url"
)


def in_words(path: Path | None, environ: Mapping[str, str]) -> Iterator[str]:
    """What a mirror with the config will do, line by line. Raises ConfigError."""
    settings = load_to_serve(path, environ)
    yield f"{path or 'built-in defaults (no config file)'}: ok"
    variables = [("variable", name) for name in given(environ)]
    for about, words in (*variables, *_summary(settings)):
        yield f"  {about:<9} {words}"


def as_file(path: Path | None, environ: Mapping[str, str]) -> str:
    """The config in force as a config file, passwords masked. Raises ConfigError."""
    settings = load(path, environ).model_dump(mode="json")
    comments = [f"# {'.'.join(VARIABLES[name])} is from {name}\n" for name in given(environ)]
    text = yaml.dump(settings, Dumper=_Quoting, sort_keys=False, allow_unicode=True)
    return "".join((*comments, text))


def as_json(path: Path | None, environ: Mapping[str, str]) -> str:
    """The same as JSON. Raises ConfigError."""
    return json.dumps(load(path, environ).model_dump(mode="json"), indent=2) + "\n"


class _Quoting(yaml.SafeDumper):
    """Puts in quotes what starts as numbers do, versions above all."""


def _text(dumper: _Quoting, value: str) -> yaml.ScalarNode:
    style = '"' if re.match(r"\d+\.\d", value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style)


_Quoting.add_representer(str, _text)


def _summary(settings: Config) -> Iterator[tuple[str, str]]:
    cache = settings.cache
    yield "listen", ", ".join(map(str, settings.listen))
    up = settings.upstream
    servers = f"{up.omaha_url or 'no Omaha server'}, {up.release_url or 'no release server'}"
    yield "upstream", f"{servers} ({up.distribution})"
    room = (
        f"up to {units.format_size(cache.max_size)}, {units.format_size(cache.min_free)} kept free"
    )
    yield "cache", f"{cache.directory} ({room})"
    yield "state", str(settings.state_directory)
    if settings.trusted_proxies and settings.public_url is None:
        yield "note", PORTLESS
    for name, track in settings.tracks.items():
        yield "track", f"{name}: {_describe(track)}"
    others = "every other track" if settings.tracks else "every track"
    yield "track", f"{others}: {_describe(settings.default_track)}"


def _describe(track: Track) -> str:
    match track:
        case Hold():
            return "hold (noupdate)"
        case Relay(upstream_track=name):
            return f"relay each check upstream, as {name}" if name else "relay each check upstream"
        case Follow(delay=delay, ramp=ramp, max_version=newest, upstream_track=name):
            later = f", {units.format_duration(delay)} later" if delay else ""
            spread = f", spread over {units.format_duration(ramp)}" if ramp else ""
            bound = f", up to {newest}" if newest else ""
            led = f"follow upstream's {name}" if name else "follow upstream"
            return f"{led}{later}{spread}{bound}"
        case Pin(version=version):
            extra = f" with {', '.join(track.packages)}" if track.packages else ""
            newer = ", to machines with a newer version too" if track.allow_downgrade else ""
            return f"offer {version}{extra}{newer}"
