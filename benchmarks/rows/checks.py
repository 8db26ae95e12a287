"""Update checks: what each costs, and how long the slowest take."""

import socket
from collections.abc import Sequence
from functools import partial
from statistics import quantiles

from benchmarks.bench import Bench, Row
from benchmarks.clients import Plan, ask, post
from benchmarks.origin import Origin
from benchmarks.results import Case, Metric
from benchmarks.servers import HOST, MIRROR, NGINX, SERVE_PACKAGE, Server, path_of
from tests.support.mirror import omaha

VERSION = "4000.0.0"
CLIENTS = 64
MACHINES = 10_000
CHECK = post(omaha("request_check_first"))
"""As recorded: updatecheck, ping, and an event; from a machine that is offered a payload and its OEM's package."""
CPU = "CPU us a check"
P99 = "p99 ms"


def publish(origin: Origin) -> None:
    """Put up the release that machines are offered."""
    origin.payload(path_of(VERSION), 1_000_000)
    origin.payload(path_of(VERSION, "oem-azure.gz"), 100_000)


def check(
    bench: Bench,
    server: Server,
    *,
    kept: bool,
    tls: bool = False,
    clients: int = CLIENTS,
    machines: int = MACHINES,
) -> dict[str, float]:
    """One round."""
    plan = Plan(
        server.tls_port if tls else server.port,
        [CHECK],
        clients=clients,
        seconds=bench.pick(2.5, 1.0),
        kept=kept,
        machines=machines,
        tls=tls,
    )
    told, cpu = bench.measure(server, plan)
    return {CPU: cpu / told.answers * 1e6, P99: quantiles(told.total, n=100)[98] * 1e3}


def warm(bench: Bench, server: Server, *, packages: int = 2) -> None:
    """Let a server learn the release and answer a little; raises where it does not offer what it should."""
    for _ in range(2):
        with socket.create_connection((HOST, server.port)) as sock:
            answer = ask(sock, CHECK)
    if server.name == MIRROR and answer.count(b"<package ") != packages:
        raise RuntimeError(f"not an offer of {packages} packages: {answer!r}")
    bench.clients.run(
        Plan(server.port, [CHECK], clients=8, seconds=0.5, kept=True, machines=MACHINES)
    )


def _run(
    bench: Bench, *, peers: Sequence[str], kept: bool, tls: bool = False, clients: int = CLIENTS
) -> None:
    with bench.origin() as origin:
        publish(origin)
        with bench.servers(origin, (MIRROR, *peers), [VERSION]) as servers:
            for server in servers:
                warm(bench, server)
            case = Case(f"{clients} clients", clients)
            for _ in bench.rounds(5):
                for server in servers:
                    bench.add(
                        server.name, case, check(bench, server, kept=kept, tls=tls, clients=clients)
                    )


METRICS = (Metric(CPU), Metric(P99))
ROWS = (
    Row(
        "check-kept",
        "update check on a kept connection",
        METRICS,
        partial(_run, peers=[SERVE_PACKAGE], kept=True),
    ),
    Row(
        "check-new",
        "update check, a new connection each",
        METRICS,
        partial(_run, peers=[SERVE_PACKAGE], kept=False),
    ),
    Row(
        "check-tls",
        "update check on a kept connection over TLS (nginx: a constant answer)",
        METRICS,
        partial(_run, peers=[NGINX], kept=True, tls=True, clients=8),
    ),
)
