"""`omaha-mirror fetch`: have a release in the cache before machines ask for it."""

from pathlib import Path

import click

from omaha_mirror.cli.options import config_option

BOARD = "amd64-usr"


@click.command()
@click.argument("target", metavar="VERSION|TRACK")
@click.option("--board", default=BOARD, show_default=True, help="amd64-usr or arm64-usr.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each report.")
def fetch(target: str, board: str, config_path: Path | None, as_json: bool) -> None:
    """Fetch a release through the running mirror, with the extra packages that this site uses.

    TRACK is fetched in the version that the track leads to now. The exit status is 3 where there is no such release,
    and 5 where upstream cannot be reached.
    """
    from omaha_mirror.cli import fetch_work

    fetch_work.run(target, board, config_path, as_json)
