"""`omaha-mirror simulate`: be a fleet."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from omaha_mirror.cli.check import DEFAULT_SERVER
from omaha_mirror.cli.client_config import update_url
from omaha_mirror.cli.exits import Exit
from omaha_mirror.cli.options import quiet_option

if TYPE_CHECKING:
    from omaha_mirror.client.simulated import Downloads, Fleet, Plan, Tally

NAME = r"[A-Za-z0-9._+-]{1,128}"
NONE = "none"
TELL = 10.0
"""Seconds from one line about how it goes to the next; on a terminal one is written over the other, each second."""
BEHIND = 0.5
"""Seconds that machines may come late; beyond, this computer is what was measured."""
NOT_HERE = """\
{server} is not on this computer. {machines} made-up machines would stand among those of the mirror there, and what
they report may be passed on upstream."""


def _server(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return update_url(value)
    except ValueError as error:
        raise click.BadParameter(f"{value}: {error}") from None


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


def _track(_: click.Context, __: click.Parameter, value: str) -> str:
    if not re.fullmatch(NAME, value, re.ASCII):
        raise click.BadParameter(f"{value!r} is not a track: use letters, digits, '.', '_' and '-'")
    return value


def _mix(_: click.Context, __: click.Parameter, value: str) -> dict[str, float]:
    """Read `NAME=WEIGHT,NAME=WEIGHT`; a name alone has the weight 1."""
    mix: dict[str, float] = {}
    for part in value.split(","):
        match = re.fullmatch(rf"({NAME})(?:=(\d{{1,9}}(?:\.\d+)?)%?)?", part.strip(), re.ASCII)
        if match is None:
            raise click.BadParameter(f"{part!r} is no NAME or NAME=WEIGHT, such as 3815.2.0=70")
        mix["" if match[1] == NONE else match[1]] = float(match[2] or 1)
    if not any(mix.values()):
        raise click.BadParameter("one weight at least must be above 0")
    return mix


@click.command()
@click.option(
    "--server",
    default=DEFAULT_SERVER,
    show_default=True,
    callback=_server,
    metavar="URL",
    help="The mirror: its base URL, or the SERVER of update.conf.",
)
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
    callback=_track,
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
    help="Fetch payloads and throw them away: none, each one once, or every machine its own.",
)
@click.option("--yes", is_flag=True, help="Do not ask before a server on another computer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON at the end.")
@quiet_option
def simulate(
    server: str,
    machines: int,
    over: float,
    track: str,
    versions: dict[str, float],
    oems: dict[str, float],
    errors: float,
    download: Downloads,
    yes: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Be a fleet: many machines that check in, update and reboot.

    Each machine asks once. One that is offered an update takes it, step by step, with the events that update_engine
    sends: in seconds, where real ones take minutes. They are the same machines each time, with the aliases simulated-0,
    simulated-1 and so on. A latency counts from when a machine wants to ask.

    Exit status: 0 all machines could use their answers; 1 some could not; 5 nobody answers; 130 stopped by Ctrl-C,
    with the figures so far.
    """
    from omaha_mirror.client.simulated import Fleet, NobodyAnswers, Plan, State

    if not (yes or _is_here(server)):
        click.echo(NOT_HERE.format(server=server, machines=machines), err=True)
        click.confirm("Go on?", abort=True, err=True)
    plan = Plan(
        server=server,
        machines=machines,
        over=over,
        track=track,
        versions=versions,
        oems=oems,
        errors=errors,
        download=download,
    )
    fleet = Fleet(plan)
    began = time.monotonic()
    exit_ = Exit.OK
    try:
        asyncio.run(_run(fleet, plan, quiet=quiet))
    except NobodyAnswers as error:
        click.echo(f"Error: no answer from {server}: {error}; does a mirror run there?", err=True)
        exit_ = Exit.UPSTREAM_UNREACHABLE
    except KeyboardInterrupt:
        exit_ = Exit.INTERRUPTED
    seconds = time.monotonic() - began
    if as_json:
        click.echo(json.dumps(as_data(plan, fleet.tally, seconds), indent=2))
    elif exit_ is not Exit.UPSTREAM_UNREACHABLE:
        _print(fleet.tally, seconds)
    if exit_ is Exit.OK and fleet.tally.states[State.UNANSWERED]:
        exit_ = Exit.FAILURE
    raise SystemExit(exit_)


def _is_here(server: str) -> bool:
    from omaha_mirror.config.units import Address

    return Address(urlsplit(server).hostname or "", 0).is_loopback


async def _run(fleet: Fleet, plan: Plan, *, quiet: bool) -> None:
    """Let the fleet run, and say how it goes."""
    running = asyncio.create_task(fleet.run())
    terminal = sys.stderr.isatty()
    while not (await asyncio.wait({running}, timeout=1.0 if terminal else TELL))[0]:
        if not quiet:
            line = _how_it_goes(fleet.tally, plan)
            click.echo(f"\r\x1b[K{line}" if terminal else line, nl=not terminal, err=True)
    if terminal and not quiet:
        click.echo("\r\x1b[K", nl=False, err=True)
    await running


def _how_it_goes(tally: Tally, plan: Plan) -> str:
    return (
        f"{tally.machines} of {plan.machines} machines have come; {_states(tally)};"
        f" {tally.requests} requests, p99 {tally.latencies.at(0.99) * 1000:.1f} ms,"
        f" {tally.errors.total()} errors"
    )


def _states(tally: Tally) -> str:
    return ", ".join(f"{count} {state}" for state, count in tally.states.items() if count)


def as_data(plan: Plan, tally: Tally, seconds: float) -> dict[str, Any]:
    """The figures, for JSON; the keys are always the same. Times are in seconds, sizes in bytes."""
    from omaha_mirror.client.simulated import State

    latencies = tally.latencies
    return {
        "server": plan.server,
        "machines": tally.machines,
        "seconds": round(seconds, 3),
        "requests": tally.requests,
        "answers": latencies.count,
        "offers": tally.offers,
        "states": {state.value: tally.states[state] for state in State},
        "latency": {
            "p50": round(latencies.at(0.5), 6),
            "p95": round(latencies.at(0.95), 6),
            "p99": round(latencies.at(0.99), 6),
            "max": round(latencies.longest, 6),
        },
        "behind": round(tally.behind, 6),
        "downloads": {"whole": tally.downloads, "bytes": tally.bytes},
        "errors": dict(tally.errors.most_common()),
    }


def _print(tally: Tally, seconds: float) -> None:
    """The figures, for people."""
    from rich.filesize import decimal

    late = tally.latencies
    click.echo(f"machines   {tally.machines}: {_states(tally)}")
    click.echo(
        f"requests   {tally.requests} in {seconds:.1f} s, {late.count} answered; {tally.offers} offers"
    )
    click.echo(
        f"latency    p50 {late.at(0.5) * 1000:.1f} ms, p95 {late.at(0.95) * 1000:.1f} ms,"
        f" p99 {late.at(0.99) * 1000:.1f} ms, longest {late.longest * 1000:.1f} ms"
    )
    if tally.bytes:
        click.echo(f"downloads  {tally.downloads} whole and right, {decimal(tally.bytes)}")
    for why, count in tally.errors.most_common():
        click.echo(f"error      {count} times: {why}")
    if tally.behind > BEHIND:
        click.echo(
            f"This computer was too slow: machines came up to {tally.behind:.1f} s late, and answers"
            " were read late. Take fewer machines, or a longer --over.",
            err=True,
        )
