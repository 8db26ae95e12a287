"""Packages: hits, and what happens to those that nobody asked for before."""

import time
from functools import partial

from benchmarks.bench import Bench, Row
from benchmarks.clients import Plan, get
from benchmarks.origin import MB
from benchmarks.results import Case, Metric
from benchmarks.servers import (
    MIRROR,
    NGINX,
    NGINX_CACHE,
    NGINX_SLICE,
    START,
    VARNISH,
    Server,
    path_of,
)

CPU = "CPU s/GB"
RATE = "MB/s"
FIRST = "first byte ms"
HERD = 50
READERS = 1000


def _clients(*counts: int) -> list[Case]:
    return [Case(f"{count} client{'s' if count > 1 else ''}", count) for count in counts]


def hit(bench: Bench, *, tls: bool) -> None:
    """Clients that download a proven package again and again."""
    version = "4000.0.0"
    names = (MIRROR, NGINX) if tls else (MIRROR, NGINX, NGINX_CACHE, VARNISH)
    with bench.origin() as origin:
        path = origin.payload(path_of(version), bench.pick(256, 64) * MB)
        with bench.servers(origin, names, [version]) as servers:
            for server in servers:
                request = get(server.path(path))
                bench.clients.run(Plan(server.port, [request]))
                bench.measure(server, Plan(server.port, [request], clients=64, seconds=1.0))
            for _ in bench.rounds(4):
                for case in _clients(8) if tls else _clients(1, 8, 64):
                    for server in servers:
                        plan = Plan(
                            server.tls_port if tls else server.port,
                            [get(server.path(path))],
                            clients=int(case.x),
                            seconds=bench.pick(1.5, 0.6),
                            tls=tls,
                        )
                        told, cpu = bench.measure(server, plan)
                        values = {CPU: cpu / told.count * 1e9, RATE: told.count / told.elapsed / MB}
                        bench.add(server.name, case, values)


def fill(bench: Bench) -> None:
    """Clients that want a package at once that nobody asked for before, from an upstream that is as fast as they are."""
    rounds, cases = bench.rounds(4), _clients(1, 8)
    versions = {(i, case): f"4000.{case.x:.0f}.{i}" for i in rounds for case in cases}
    with bench.origin() as origin:
        names = (MIRROR, NGINX_CACHE, VARNISH)
        with bench.servers(origin, names, list(versions.values())) as servers:
            for (_, case), version in versions.items():
                path = origin.payload(path_of(version), bench.pick(256, 64) * MB)
                size = origin.size(path)
                for server in servers:
                    told, cpu = bench.measure(
                        server, Plan(server.port, [get(path)], clients=int(case.x))
                    )
                    values = {CPU: cpu / size * 1e9, RATE: size / told.elapsed / MB}
                    bench.add(server.name, case, values)
                    time.sleep(0.5)  # what is still written is not the next one's


def herd(bench: Bench) -> None:
    """Clients that want a package at once over a thin line; the slowest is held against a direct download."""
    versions = [f"4000.0.{i}" for i in bench.rounds(3)]
    case = Case(f"{HERD} clients", HERD)
    with bench.origin() as origin:
        names = (MIRROR, NGINX_CACHE, NGINX_SLICE, VARNISH)
        with bench.servers(origin, names, versions) as servers:
            for version in versions:
                path = origin.payload(path_of(version), bench.pick(100, 25) * MB)
                origin.line.rate = 50.0 * MB
                direct = bench.clients.run(Plan(origin.port, [get(path)]))
                for server in servers:
                    origin.sent.clear()
                    plan = Plan(server.port, [get(path)], clients=HERD)
                    told, _ = bench.measure(server, plan)
                    sent = sum(one.count for one in origin.sent if one.path == path)
                    values = {
                        "slowest / direct": max(told.total) / direct.elapsed,
                        FIRST: max(told.first) * 1e3,
                        "upstream bytes / size": sent / origin.size(path),
                    }
                    bench.add(server.name, case, values)


def far_range(bench: Bench) -> None:
    """A client that resumes at 80 % of a package that nobody asked for before."""
    versions = [f"4000.0.{i}" for i in bench.rounds(3)]
    with bench.origin() as origin:
        names = (MIRROR, NGINX_CACHE, NGINX_SLICE, VARNISH)
        with bench.servers(origin, names, versions) as servers:
            for version in versions:
                path = origin.payload(path_of(version), bench.pick(100, 25) * MB)
                origin.line.rate = 50.0 * MB
                start = origin.size(path) * 4 // 5
                for server in servers:
                    told, _ = bench.measure(server, Plan(server.port, [get(path, start=start)]))
                    if told.count != origin.size(path) - start:
                        raise RuntimeError(f"{server.name}: {told.count} bytes are not the range")
                    bench.add(server.name, Case("from 80 %"), {FIRST: told.first[0] * 1e3})


def readers(bench: Bench) -> None:
    """Clients that read a proven package slowly, over segments as on Ethernet."""
    version, rate = "4000.0.0", 500_000
    case = Case(f"{READERS:,} readers at {rate // 1000} kB/s", READERS)
    with bench.origin() as origin:
        path = origin.payload(path_of(version), bench.pick(5, 2) * MB)
        for _ in bench.rounds(2):
            with bench.servers(origin, (MIRROR, NGINX, VARNISH), [version]) as servers:
                for server in servers:
                    bench.clients.run(Plan(server.port, [get(path)], clients=8))
                    bench.settle()
                    plan = Plan(server.port, [get(path)], clients=READERS, rate=rate)
                    bench.add(server.name, case, _read(bench, server, plan))


def _read(bench: Bench, server: Server, plan: Plan) -> dict[str, float]:
    """Let them read, and look at the memory meanwhile."""
    cpu, memory = server.cpu(), server.memory()
    peak, reading = memory, bench.clients.start(plan)
    while (told := reading()) is None:
        time.sleep(0.5)
        peak = max(peak, server.memory())
    values = {"kB each": (peak - memory) / READERS / 1e3, CPU: 0.0}
    return values | {CPU: (server.cpu() - cpu) / told.count * 1e9}


def first_use(bench: Bench) -> None:
    """Clients of a large package after a start of the mirror, which verifies it once more while it serves it."""
    version = "4000.0.0"
    with bench.origin() as origin:
        path = origin.payload(path_of(version), bench.pick(400, 50) * MB)
        site = bench.site(origin, [version])
        with START[MIRROR](site) as server:
            bench.clients.run(Plan(server.port, [get(path)]))
        for _ in bench.rounds(2):
            for case in _clients(1, 64, READERS):
                with START[MIRROR](site) as server:
                    seconds = 0.0 if case.x < READERS else bench.pick(6.0, 2.0)
                    plan = Plan(server.port, [get(path)], clients=int(case.x), seconds=seconds)
                    told, cpu = bench.measure(server, plan)
                values = {CPU: cpu / told.count * 1e9, FIRST: max(told.first) * 1e3}
                bench.add(server.name, case, values)


HIT = (Metric(CPU), Metric(RATE, higher_is_better=True))
ROWS = (
    Row("hit", "warm hit", HIT, partial(hit, tls=False), "clients"),
    Row("hit-tls", "warm hit over TLS, the same cipher", HIT, partial(hit, tls=True)),
    Row("fill", "cold package, fast upstream (the mirror proves it)", HIT, fill, "clients"),
    Row(
        "herd",
        "cold package over 50 MB/s, all at once",
        (Metric("slowest / direct"), Metric(FIRST), Metric("upstream bytes / size")),
        herd,
    ),
    Row("range", "far range of a cold package over 50 MB/s", (Metric(FIRST),), far_range),
    Row("readers", "slow readers of a warm package", (Metric("kB each"), Metric(CPU)), readers),
    Row(
        "first-use",
        "first use after a start (the package is verified)",
        (Metric(CPU), Metric(FIRST)),
        first_use,
    ),
)
