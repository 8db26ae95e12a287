"""What the declarations of commands share: options, checks of their values, and the call of the work."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_CONFIG = Path("/etc/omaha-mirror/config.yaml")
DEFAULT_SERVER = "http://127.0.0.1:8000/v1/update/"


def work(function: str) -> Callable[[Callable[[], None]], Callable[..., Any]]:
    """Give a declaration the function that its command calls, with the command's parameters by name.

    Args:
        function: `MODULE:NAME` of this package. It is imported when the command is called: help and completion stay fast.
    """
    module, _, name = function.partition(":")

    def bound(declaration: Callable[[], None]) -> Callable[..., Any]:
        @wraps(declaration)
        def call(**given: Any) -> Any:
            _import_structlog()
            return getattr(importlib.import_module(f"omaha_mirror.cli.{module}"), name)(**given)

        call.__dict__["work"] = function
        return call

    return bound


def _import_structlog() -> None:
    """Import it without rich, of which it would take 5 MB for tracebacks in colour that nobody asks for."""
    if "structlog" not in sys.modules and "rich" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment]  # to import: it is not there
        try:
            importlib.import_module("structlog")
        finally:
            del sys.modules["rich"]


def _or_default(_: click.Context, __: click.Parameter, value: Path | None) -> Path | None:
    if value is not None:
        return value
    try:
        DEFAULT_CONFIG.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass  # reading the file raises why it cannot be read
    return DEFAULT_CONFIG


def update_url(server: str) -> str:
    """The SERVER of update.conf for a mirror's URL: its origin and `/v1/update/`.

    update_engine posts to the path as it is written (`update_engine/omaha_request_params.cc:55`).

    Raises:
        click.BadParameter: it is not the URL of a mirror; the message says what must change.
    """
    from omaha_mirror.config import urls

    try:
        return urls.origin(server.rstrip("/").removesuffix("/v1/update")) + "/v1/update/"
    except ValueError as error:
        raise click.BadParameter(f"{server!r}: {error}", param_hint="--server") from None


def track_name(_: click.Context, parameter: click.Parameter, value: str) -> str:
    """Check the name of a track that goes into an update.conf."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", value, re.ASCII):
        raise click.BadParameter(
            f"{value!r} is not a track: use letters, digits, '.', '_' and '-'.",
            param_hint=parameter.opts[0],
        )
    return value


config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    callback=_or_default,
    metavar="FILE",
    help=f"Config file. [default: {DEFAULT_CONFIG} if it exists, else built-in defaults]",
)
"""Gives a command `config_path: Path | None`, ready for `omaha_mirror.config.load`."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""Gives a command `as_json: bool`."""

quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
"""Gives a command `quiet: bool`."""

dry_run_option = click.option("--dry-run", is_flag=True, help="Only print what would be done.")
"""Gives a command `dry_run: bool`."""

board_option = click.option(
    "--board", default="amd64-usr", show_default=True, help="amd64-usr or arm64-usr."
)
"""Gives a command `board: str`."""


def server_option(default: str | None = None) -> Callable[[F], F]:
    """Give a command `server`: the SERVER of update.conf, or None where it is not given and has no default."""
    return click.option(
        "--server",
        default=default,
        show_default=default is not None,
        callback=lambda _, __, value: value if value is None else update_url(value),
        metavar="URL",
        help="The mirror: its base URL, or the SERVER of update.conf.",
    )


def log_level_options(command: F) -> F:
    """Give a command that logs `log_level`: "debug", "error", or None for the usual one."""
    verbose = click.option(
        "-v", "--verbose", "log_level", flag_value="debug", help="Log everything."
    )
    quiet = click.option("-q", "--quiet", "log_level", flag_value="error", help="Log errors only.")
    return verbose(quiet(command))
