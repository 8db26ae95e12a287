"""`omaha-mirror machines`: the machines that the mirror knows."""

from pathlib import Path

import click

from omaha_mirror.cli.options import config_option


@click.command()
@click.option(
    "--search", default="", metavar="TEXT", help="Part of a machine's id, alias or address."
)
@click.option("--state", metavar="STATE", help='Such as error, complete or "on hold".')
@click.option("--track", metavar="NAME", help="That the machines are on.")
@click.option("--version", metavar="VERSION", help="That the machines run.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV, made safe for spreadsheets.")
@config_option
def machines(
    search: str,
    state: str | None,
    track: str | None,
    version: str | None,
    form: str | None,
    config_path: Path | None,
) -> None:
    """List the machines that the running mirror knows, with where each is on its way to its next version."""
    from omaha_mirror.cli import machines_work

    asked = {"search": search or None, "state": state, "track": track, "version": version}
    machines_work.run(
        {name: value for name, value in asked.items() if value is not None}, form, config_path
    )
