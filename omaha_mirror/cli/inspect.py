"""`omaha-mirror inspect`: what is in an update payload, and who signed it."""

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--key",
    "key_paths",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="PEM",
    help="A public key that may have signed it; can be given more than once.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(file: Path, key_paths: tuple[Path, ...], as_json: bool) -> None:
    """Tell what is in an update payload, and who signed it.

    The data of every operation is held against its digest. A machine has its vendor's key as
    /usr/share/update_engine/update-payload-key.pub.pem.

    Exit status: 0 all is right; 1 FILE is no payload that a client could read; 4 wrong data, or, with --key, no
    signature that update_engine would take.
    """
    from omaha_mirror.cli import inspect_work

    inspect_work.run(file, key_paths, as_json)
