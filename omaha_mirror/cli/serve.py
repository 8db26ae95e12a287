"""`omaha-mirror serve`: run the mirror."""

from pathlib import Path

import click

from omaha_mirror.cli.options import config_option, log_level_options


@click.command()
@config_option
@log_level_options
def serve(config_path: Path | None, log_level: str | None) -> None:
    """Run the mirror until it is told to stop."""
    from omaha_mirror.cli import serve_work

    serve_work.run(config_path, log_level)
