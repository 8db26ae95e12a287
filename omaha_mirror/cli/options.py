"""Options that several commands have."""

from pathlib import Path

import click

DEFAULT_CONFIG = Path("/etc/omaha-mirror/config.yaml")


def _or_default(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    return DEFAULT_CONFIG if value is None and DEFAULT_CONFIG.exists() else value


config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    callback=_or_default,
    metavar="FILE",
    help=f"Config file. [default: {DEFAULT_CONFIG} if it exists, else built-in defaults]",
)
"""Gives a command `config_path: Path | None`, ready for `omaha_mirror.config.load`."""
