"""`omaha-mirror explain`: why a machine did or did not update."""

from pathlib import Path

import click

from omaha_mirror.cli.options import config_option


@click.command()
@click.argument("machine", required=False)
@click.option(
    "--request",
    "request_path",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Tell what a machine would be told that sent this Omaha request; - is standard input.",
)
@click.option(
    "--upstream",
    "ask_upstream",
    is_flag=True,
    help="With --request: ask upstream too, in a name of the mirror's own, and tell the difference.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@config_option
def explain(
    machine: str | None,
    request_path: Path | None,
    ask_upstream: bool,
    as_json: bool,
    config_path: Path | None,
) -> None:
    """Tell what MACHINE asked, what it was told, why, and what would change it.

    MACHINE is its id, the beginning of its id, or its alias. With --request a request is looked at instead as if a
    machine had sent it: by the live policy, with nothing recorded.

    The exit status is 3 where there is no such machine.
    """
    from omaha_mirror.cli import explain_work

    if (machine is None) == (request_path is None):
        raise click.UsageError("give a MACHINE, or a request with --request FILE")
    if ask_upstream and request_path is None:
        raise click.UsageError("--upstream goes with --request")
    if machine is not None:
        explain_work.machine(machine, config_path, as_json=as_json)
    elif request_path is not None:
        explain_work.request(request_path, config_path, ask_upstream=ask_upstream, as_json=as_json)
