"""`omaha-mirror config`: check the config, show it, describe it, and let a running mirror apply it."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import click
import yaml

from omaha_mirror.cli.exits import Failure
from omaha_mirror.config import Config, Follow, Hold, Pin, Relay, Track, load, load_to_serve, units
from omaha_mirror.config.environment import VARIABLES, given

PORTLESS = (
    "trusted_proxies without public_url: machines get URLs with the host and port that the proxy passes on (X-Forwarded-Host,"
    " X-Forwarded-Port, X-Forwarded-Proto, else Host); where it leaves the port out, set public_url"
)


def check(config_path: Path | None, quiet: bool) -> None:
    """Print what a mirror with the config will do."""
    settings = load_to_serve(config_path, os.environ)
    if quiet:
        return
    click.echo(f"{config_path or 'built-in defaults (no config file)'}: ok")
    variables = [("variable", name) for name in given(os.environ)]
    for about, words in (*variables, *_summary(settings)):
        click.echo(f"  {about:<9} {words}")


def show(config_path: Path | None, as_json: bool) -> None:
    """Print the config in force, passwords masked, as a config file or as JSON."""
    settings = load(config_path, os.environ).model_dump(mode="json")
    if as_json:
        click.echo(json.dumps(settings, indent=2))
        return
    for name in given(os.environ):
        click.echo(f"# {'.'.join(VARIABLES[name])} is from {name}")
    text = yaml.dump(settings, Dumper=_Quoting, sort_keys=False, allow_unicode=True)
    click.echo(text, nl=False)


def reload(config_path: Path | None, pid: int) -> None:
    """Check the config, and signal the mirror in any case: it reports a broken config."""
    from omaha_mirror.cli.reload import checked

    try:
        checked(config_path)
    finally:
        try:
            os.kill(pid, signal.SIGHUP)
        except OSError as error:
            raise Failure(f"cannot signal process {pid}: {error.strerror}") from None


def schema() -> None:
    """Print the JSON Schema of the config file."""
    from omaha_mirror.config.schema import schema

    click.echo(json.dumps(schema(), indent=2))


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
