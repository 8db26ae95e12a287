"""`omaha-mirror export`: write a release into one file."""

from pathlib import Path

import click

from omaha_mirror.cli.options import config_option


@click.command()
@click.option("--track", required=True, help="Whose machines it is for.")
@click.option("--board", default="amd64-usr", show_default=True, help="amd64-usr or arm64-usr.")
@click.option("--version", help="Lead to this version. [default: where the track leads now]")
@click.option(
    "--oem", "oems", multiple=True, metavar="ID", help="With the package of this OEM; repeatable."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True, dir_okay=False),
    required=True,
    metavar="FILE",
    help="Where to; - for standard output.",
)
@click.option("--split", metavar="SIZE", help="Write FILE.000, FILE.001 ... of this size.")
@config_option
def export(
    track: str,
    board: str,
    version: str | None,
    oems: tuple[str, ...],
    output: Path,
    split: str | None,
    config_path: Path | None,
) -> None:
    """Write a release, all that machines must step through before it, and their packages into one tar.

    What is not here yet is fetched first, if the mirror runs. All system extensions come along, and the packages of
    the OEMs in use here. Until the last byte is there and right, it is FILE.partial; an export that was broken off goes
    on where it ended: call it again. A FILE that is something else is left alone, and what turns out damaged is removed;
    the exit status is then 4. `omaha-mirror import` takes FILE in.
    """
    from omaha_mirror.bundle import ExportRequest
    from omaha_mirror.cli import export_work

    export_work.run(ExportRequest(track, board, version, oems), output, split, config_path)
