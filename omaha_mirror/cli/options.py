"""Options that several commands have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_CONFIG = Path("/etc/omaha-mirror/config.yaml")


def _or_default(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    if value is not None:
        return value
    try:
        DEFAULT_CONFIG.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass  # whoever reads it says why that cannot be done
    return DEFAULT_CONFIG


config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    callback=_or_default,
    metavar="FILE",
    help=f"Config file. [default: {DEFAULT_CONFIG} if it exists, else built-in defaults]",
)
"""Gives a command `config_path: Path | None`, ready for `omaha_mirror.config.load`."""

quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
"""Gives a command `quiet: bool`."""


def log_level_options(command: F) -> F:
    """Give a command that logs `log_level`: "debug", "error", or None for the usual one."""
    verbose = click.option(
        "-v", "--verbose", "log_level", flag_value="debug", help="Log everything."
    )
    quiet = click.option("-q", "--quiet", "log_level", flag_value="error", help="Log errors only.")
    return verbose(quiet(command))
