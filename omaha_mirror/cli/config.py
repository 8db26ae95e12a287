"""`omaha-mirror config`: check a config file, show what is in force, describe the file to an editor."""

import json
import os
import signal
from pathlib import Path

import click

from omaha_mirror.cli.options import config_option, quiet_option


@click.group()
def config() -> None:
    """Check, show or describe the config."""


@config.command()
@config_option
@quiet_option
def check(config_path: Path | None, quiet: bool) -> None:
    """Say whether the config is good, and what the mirror will do with it.

    All errors are printed, each with its place in the file; the exit status is then 78.
    """
    from omaha_mirror.cli import config_text

    for line in config_text.in_words(config_path, os.environ):
        if not quiet:
            click.echo(line)


@config.command()
@config_option
@click.argument("pid", type=click.IntRange(min=1))
def reload(config_path: Path | None, pid: int) -> None:
    """Have the running mirror with this process id take over the config, and say whether it can.

    A broken config changes nothing at the mirror, which says so on /readyz; the exit status is then 78. What
    `systemctl reload omaha-mirror` runs.
    """
    from omaha_mirror.cli.reload import checked

    try:
        checked(config_path)
    except OSError as error:
        raise click.ClickException(str(error)) from None
    finally:
        _signal(pid)


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise click.ClickException(f"cannot signal process {pid}: {error.strerror}") from None


@config.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML.")
def show(config_path: Path | None, as_json: bool) -> None:
    """Print the config in force, defaults included, as a config file; passwords are masked.

    Comments at the top say what comes from variables of the environment.
    """
    from omaha_mirror.cli import config_text

    write = config_text.as_json if as_json else config_text.as_file
    click.echo(write(config_path, os.environ), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON Schema of the config file, for editors."""
    from omaha_mirror.config.schema import schema

    click.echo(json.dumps(schema(), indent=2))
