"""`omaha-mirror import`: take in what export wrote."""

from pathlib import Path

import click

from omaha_mirror.cli.options import config_option


@click.command("import")
@click.argument(
    "sources",
    nargs=-1,
    required=True,
    metavar="FILE...|DIR|-",
    type=click.Path(path_type=Path, allow_dash=True),
)
@click.option("--track", help="Of a DIR: whose machines it is for.")
@click.option("--board", default="amd64-usr", show_default=True, help="Of a DIR: its board.")
@click.option("--version", help="Of a DIR with a payload: the version that it updates to.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_(
    sources: tuple[Path, ...],
    track: str | None,
    board: str,
    version: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Take releases in, so that machines are offered them although upstream never was asked.

    FILE is what `export` wrote; the FILEs of one that was split are named in order, or by the name that was given to
    `export`. DIR is such a bundle unpacked, or holds update.gz (with --track and --version; oem-*.gz and flatcar-*.gz
    come along), or what `updateservicectl package download` saved (with --track).

    Nothing changes unless all of it is right: what is damaged, incomplete, or unsigned where keys are configured is
    refused, and the exit status is 4. The same again does no harm.
    """
    from omaha_mirror.cli import import_work

    import_work.run(sources, track, board, version, config_path, as_json=as_json)
