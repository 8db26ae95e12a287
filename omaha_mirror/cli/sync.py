"""`omaha-mirror sync`: ask upstream now."""

from pathlib import Path

import click

from omaha_mirror.cli.options import config_option


@click.command()
@click.argument("track", required=False)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sync(track: str | None, config_path: Path | None, as_json: bool) -> None:
    """Have the running mirror ask upstream about TRACK, or about all tracks that it follows.

    The exit status is 3 where no such track is followed, and 5 where upstream gave no good answer.
    """
    from omaha_mirror.cli import sync_work

    sync_work.run(track, config_path, as_json)
