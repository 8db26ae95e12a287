"""`omaha-mirror check`: be a machine that asks for an update."""

from pathlib import Path

import click

from omaha_mirror.cli.client_config import update_url
from omaha_mirror.cli.options import quiet_option

DEFAULT_SERVER = "http://127.0.0.1:8000/v1/update/"


def _server(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return update_url(value)
    except ValueError as error:
        raise click.BadParameter(f"{value}: {error}") from None


@click.command()
@click.option(
    "--server",
    default=DEFAULT_SERVER,
    show_default=True,
    callback=_server,
    metavar="URL",
    help="The mirror: its base URL, or the SERVER of update.conf.",
)
@click.option("--track", default="stable", show_default=True, help="The machine's GROUP.")
@click.option("--version", default="0.0.0", show_default=True, help="The version that it runs.")
@click.option("--board", default="amd64-usr", show_default=True, help="amd64-usr or arm64-usr.")
@click.option("--oem", default="", metavar="ID", help="Its OEM, such as azure.  [default: none]")
@click.option("--app-id", metavar="UUID", help="The application.  [default: Flatcar's]")
@click.option(
    "--machine-id",
    metavar="HEX",
    help="32 hexadecimal digits.  [default: made from this host's name, the same at each call]",
)
@click.option(
    "--download",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Download what is offered to this folder, verify it, and report to the server as a machine.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@quiet_option
def check(
    server: str,
    track: str,
    version: str,
    board: str,
    oem: str,
    app_id: str | None,
    machine_id: str | None,
    directory: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Ask a mirror for an update, as a machine does.

    The answer is held to all that update_engine and ue-rs demand of it. With --download the payload, the package of
    the OEM and all system extensions are fetched as the machine would, and nothing gets its name before its size and
    digests are right.

    Exit status: 0 an answer, no update included; 1 a machine's update would fail; 4 wrong bytes; 5 no answer.
    """
    from omaha_mirror.cli import check_work
    from omaha_mirror.omaha import FLATCAR_APP_ID, Machine

    machine = Machine(
        version=version,
        machineid=machine_id or check_work.machine_id(),
        appid=(app_id or FLATCAR_APP_ID).strip("{}"),
        track=track,
        board=board,
        oem=oem,
    )
    check_work.run(machine, server, directory, as_json=as_json, quiet=quiet)
