"""The commands that act as machines, or look at what machines get, as click declares them."""

import re
from pathlib import Path

import click

from omaha_mirror.cli.options import (
    DEFAULT_SERVER,
    board_option,
    config_option,
    json_option,
    quiet_option,
    server_option,
    track_name,
    work,
)

NONE = "none"
"""Stands for no OEM."""


@click.command()
@server_option(DEFAULT_SERVER)
@click.option("--track", default="stable", show_default=True, help="The machine's GROUP.")
@click.option("--version", default="0.0.0", show_default=True, help="The version that it runs.")
@board_option
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
@json_option
@quiet_option
@work("check:run")
def check() -> None:
    """Ask a mirror for an update, as a machine does.

    The answer must meet all that update_engine and ue-rs require of it. With --download the payload, the package of the
    OEM and all system extensions are downloaded as a machine would; a file gets its name when its size and digests are
    verified.

    Exit status: 0 an answer, no update included; 1 a machine's update would fail; 4 wrong bytes; 5 no answer.
    """


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
@json_option
@work("inspect:run")
def inspect() -> None:
    """Show what an update payload contains, and who signed it.

    The data of every operation is compared with its digest. A machine has its vendor's key as
    /usr/share/update_engine/update-payload-key.pub.pem.

    Exit status: 0 all is right; 1 FILE is no payload that a client could read; 4 wrong data, or, with --key, no
    signature that update_engine would accept.
    """


@click.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["update.conf", "butane", "shell"]),
    default="update.conf",
    show_default=True,
    help="A file for /etc/flatcar, a Butane config for new machines, or a script for running ones.",
)
@server_option()
@click.option(
    "--group",
    default="stable",
    show_default=True,
    callback=track_name,
    help="The track to follow.",
)
@config_option
@work("client_config:run")
def client_config() -> None:
    """Print the settings that point a machine at the mirror.

    The mirror's URL is --server, or else public_url of the config.
    """


@click.command()
@work("demo:run")
def demo() -> None:
    """Try a mirror with a made-up upstream and machines.

    All of it is real HTTP on 127.0.0.1, and takes a few seconds. Nothing leaves this computer, and nothing is kept.
    """


def _seconds(_: click.Context, __: click.Parameter, value: str) -> float:
    from omaha_mirror.config.units import parse_duration

    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _share(_: click.Context, __: click.Parameter, value: str) -> float:
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*%?", value.strip(), re.ASCII)
    if match is None or float(match[1]) > 100:
        raise click.BadParameter(f"{value!r} is no share: write 0% to 100%, such as 1%")
    return float(match[1]) / 100


def _mix(_: click.Context, __: click.Parameter, value: str) -> dict[str, float]:
    """Read `NAME=WEIGHT,NAME=WEIGHT`; a name alone has the weight 1."""
    mix: dict[str, float] = {}
    for part in value.split(","):
        match = re.fullmatch(
            r"([A-Za-z0-9._+-]{1,128})(?:=(\d{1,9}(?:\.\d+)?)%?)?", part.strip(), re.ASCII
        )
        if match is None:
            raise click.BadParameter(f"{part!r} is no NAME or NAME=WEIGHT, such as 3815.2.0=70")
        mix["" if match[1] == NONE else match[1]] = float(match[2] or 1)
    if not any(mix.values()):
        raise click.BadParameter("one weight at least must be above 0")
    return mix


@click.command()
@server_option(DEFAULT_SERVER)
@click.option(
    "--machines",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    show_default=True,
    help="How many there are.",
)
@click.option(
    "--over",
    default="1m",
    show_default=True,
    callback=_seconds,
    metavar="DURATION",
    help="The time in which they come, one after the other, such as 5m.",
)
@click.option(
    "--track",
    default="stable",
    show_default=True,
    callback=track_name,
    help="The GROUP of all of them.",
)
@click.option(
    "--version-mix",
    "versions",
    default="0.0.0",
    show_default=True,
    callback=_mix,
    metavar="MIX",
    help="The versions that they run, with weights, such as 3815.2.0=70,3760.2.0=30.",
)
@click.option(
    "--oem-mix",
    "oems",
    default=NONE,
    show_default=True,
    callback=_mix,
    metavar="MIX",
    help=f"Their OEMs, such as azure=2,{NONE}=1.",
)
@click.option(
    "--errors",
    default="0%",
    show_default=True,
    callback=_share,
    metavar="SHARE",
    help="How many of the updates fail, such as 1%.",
)
@click.option(
    "--download",
    type=click.Choice(["none", "first", "all"]),
    default="none",
    show_default=True,
    help="Download payloads and discard them: none, each one once, or every machine its own.",
)
@click.option("--yes", is_flag=True, help="Do not ask before a server on another computer.")
@json_option
@quiet_option
@work("simulate:run")
def simulate() -> None:
    """Be a fleet: many machines that check in, update and reboot.

    Each machine asks once. One that is offered an update takes it, step by step, with the events that update_engine
    sends: in seconds, where real ones take minutes. They are the same machines each time, with the aliases simulated-0,
    simulated-1 and so on. A latency counts from when a machine wants to ask.

    Exit status: 0 all machines could use their answers; 1 some could not; 5 the server does not answer; 130 stopped by
    Ctrl-C, with the figures so far.
    """
