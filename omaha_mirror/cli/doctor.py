"""`omaha-mirror doctor`: the checks that an operator would make, each with what to do."""

from pathlib import Path

import click

from omaha_mirror.cli.options import config_option


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(config_path: Path | None, as_json: bool) -> None:
    """Check all that the mirror needs: config, disk, addresses, upstream, clock; and how it is, where it runs.

    A line for each check: ok, warn or fail, and what to do. It changes nothing. Run it as the mirror's user, or as root.
    The exit status is 1 if something is wrong here, 5 if it is only upstream, and 78 if it is the config.
    """
    from omaha_mirror.cli import doctor_work

    doctor_work.run(config_path, as_json)
