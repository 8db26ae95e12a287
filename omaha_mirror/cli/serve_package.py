"""`omaha-mirror serve-package`: offer one package on disk, as go-omaha's program of that name does."""

from pathlib import Path

import click

from omaha_mirror.cli.options import log_level_options


@click.command("serve-package")
@click.option(
    "--package-file",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The update payload.",
)
@click.option("--package-version", "version", required=True, help="Its version.")
@click.option(
    "--listen-address",
    "listen",
    default=":8000",
    show_default=True,
    help="HOST:PORT; without HOST on every interface.",
)
@log_level_options
def serve_package(path: Path, version: str, listen: str, log_level: str | None) -> None:
    """Offer one package on disk to every machine that asks and has an older version.

    Application, board and track do not matter. The flags may be written with one dash.
    """
    from omaha_mirror.cli import serve_package_work

    serve_package_work.run(path, version, listen, log_level or "info")
