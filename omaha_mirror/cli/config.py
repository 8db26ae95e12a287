"""`omaha-mirror config`: check a config file, or show what is in force."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import click
import yaml

from omaha_mirror.cli.options import config_option
from omaha_mirror.config import Config, Hold, Track, load, units


@click.group()
def config() -> None:
    """Check or show the config."""


@config.command()
@config_option
def check(config_path: Path | None) -> None:
    """Say whether the config is good, and what the mirror will do with it.

    All errors are printed, each with its place in the file; the exit status is then 78.
    """
    settings = load(config_path, os.environ)
    click.echo(f"{config_path or 'built-in defaults (no config file)'}: ok")
    for name, value in _summary(settings):
        click.echo(f"  {name:<9} {value}")


@config.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML.")
def show(config_path: Path | None, as_json: bool) -> None:
    """Print the config in force, defaults included, as a config file; passwords are masked."""
    settings = load(config_path, os.environ).model_dump(mode="json")
    if as_json:
        click.echo(json.dumps(settings, indent=2))
    else:
        click.echo(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), nl=False)


def _summary(settings: Config) -> Iterator[tuple[str, str]]:
    cache = settings.cache
    yield "listen", ", ".join(map(str, settings.listen))
    yield "upstream", f"{settings.upstream.release_url} ({settings.upstream.distribution})"
    room = (
        f"up to {units.format_size(cache.max_size)}, {units.format_size(cache.min_free)} kept free"
    )
    yield "cache", f"{cache.directory} ({room})"
    yield "state", str(settings.state_directory)
    for name, track in settings.tracks.items():
        yield "track", f"{name}: {_describe(track)}"
    others = "every other track" if settings.tracks else "every track"
    yield "track", f"{others}: {_describe(settings.default_track)}"


def _describe(track: Track) -> str:
    if isinstance(track, Hold):
        return "hold (noupdate)"
    extra = f" with {', '.join(track.packages)}" if track.packages else ""
    newer = ", to machines with a newer version too" if track.allow_downgrade else ""
    return f"offer {track.version}{extra}{newer}"
