"""`omaha-mirror simulate`: run a simulated fleet, and print the server's latencies and errors."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import click
from rich.filesize import decimal

from omaha_mirror.cli.exits import Exit, Failure
from omaha_mirror.client.simulated import Downloads, Fleet, NoAnswer, Plan, State, Tally
from omaha_mirror.config.units import Address

PROGRESS_EVERY = 10.0
"""Seconds between lines of progress; on a terminal one line is updated each second."""
MAX_LATE = 0.5
"""Seconds that machines may be late; beyond that, the figures depend on this computer more than on the server."""
OTHER_COMPUTER = """\
{server} is not on this computer. {machines} made-up machines would appear among those of the mirror there, and it
may forward what they report to upstream."""


def run(
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
    """Run the fleet, and print the figures."""
    _confirm(server, machines, yes)
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
    fleet, began = Fleet(plan), time.monotonic()
    failure: BaseException | None = None
    try:
        asyncio.run(_run(fleet, plan, quiet=quiet))
    except NoAnswer as error:
        words = f"no answer from {server}: {error}; does a mirror run there?"
        failure = Failure(words, Exit.UPSTREAM_UNREACHABLE)
    except KeyboardInterrupt as error:
        failure = error
    seconds = time.monotonic() - began
    if as_json or not isinstance(failure, Failure):
        _print(plan, fleet.tally, seconds, as_json)
    if failure is not None:
        raise failure
    if fleet.tally.states[State.UNANSWERED]:
        raise SystemExit(Exit.FAILURE)


def _confirm(server: str, machines: int, yes: bool) -> None:
    """Ask before a server on another computer. Raises click.Abort."""
    if not (yes or Address(urlsplit(server).hostname or "", 0).is_loopback):
        click.echo(OTHER_COMPUTER.format(server=server, machines=machines), err=True)
        click.confirm("Go on?", abort=True, err=True)


async def _run(fleet: Fleet, plan: Plan, *, quiet: bool) -> None:
    """Run the fleet, and print the progress."""
    running = asyncio.create_task(fleet.run())
    terminal = sys.stderr.isatty()
    while not (await asyncio.wait({running}, timeout=1.0 if terminal else PROGRESS_EVERY))[0]:
        if not quiet:
            line = _progress(fleet.tally, plan)
            click.echo(f"\r\x1b[K{line}" if terminal else line, nl=not terminal, err=True)
    if terminal and not quiet:
        click.echo("\r\x1b[K", nl=False, err=True)
    await running


def _progress(tally: Tally, plan: Plan) -> str:
    return (
        f"{tally.machines} of {plan.machines} machines have started; {_states(tally)};"
        f" {tally.requests} requests, p99 {tally.latencies.at(0.99) * 1000:.1f} ms,"
        f" {tally.errors.total()} errors"
    )


def _states(tally: Tally) -> str:
    return ", ".join(f"{count} {state}" for state, count in tally.states.items() if count)


def as_data(plan: Plan, tally: Tally, seconds: float) -> dict[str, Any]:
    """The figures, for JSON; the keys are always the same. Times are in seconds, sizes in bytes."""
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


def _print(plan: Plan, tally: Tally, seconds: float, as_json: bool) -> None:
    """Print the figures."""
    if as_json:
        click.echo(json.dumps(as_data(plan, tally, seconds), indent=2))
        return
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
    if tally.behind > MAX_LATE:
        click.echo(
            f"This computer was too slow: machines came up to {tally.behind:.1f} s late, and answers"
            " were read late. Take fewer machines, or a longer --over.",
            err=True,
        )
