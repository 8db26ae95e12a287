"""A process that serves: idle, started, and with more and more machines, blobs and connections."""

import http.client
import json
import secrets
import shutil
import socket
import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.bench import Bench, Row
from benchmarks.clients import Plan, ask, get, machine_id
from benchmarks.results import Case, Metric
from benchmarks.rows import checks
from benchmarks.servers import (
    HOST,
    MIRROR,
    NGINX,
    SERVE_PACKAGE,
    START,
    VARNISH,
    Server,
    Site,
    path_of,
)
from omaha_mirror.fleet.model import machine_key

VERSION = checks.VERSION
PATH = path_of(VERSION)
MEMORY = "memory MB"
HIT_CPU = "CPU us a hit"
START_SECONDS = "start s"
SMALL = 2000
"""Bytes of the package whose hits are counted."""


def _count(number: int, what: str) -> Case:
    return Case(f"{number:,} {what}", number)


def idle(bench: Bench) -> None:
    """Servers that have answered one request of each kind."""
    with bench.origin() as origin:
        checks.publish(origin)
        for _ in bench.rounds(3):
            names = (MIRROR, NGINX, VARNISH, SERVE_PACKAGE)
            with bench.servers(origin, names, [VERSION]) as servers:
                for server in servers:
                    bench.clients.run(Plan(server.port, [get(server.path(PATH))]))
                    if server.name in (MIRROR, SERVE_PACKAGE):
                        bench.clients.run(Plan(server.port, [checks.CHECK]))
                time.sleep(2.0)
                for server in servers:
                    bench.add(server.name, Case("idle"), {MEMORY: server.memory() / 1e6})


def start(bench: Bench) -> None:
    """From the start of the process to its first answer, with a cache that another run left."""
    with bench.origin() as origin:
        origin.payload(PATH, SMALL)
        sites = {
            _count(blobs, "blobs"): _with_blobs(bench.site(origin, [VERSION]), blobs)
            for blobs in (0, bench.pick(20_000, 1000))
        }
        for _ in bench.rounds(3):
            for case, site in sites.items():
                began = time.monotonic()
                with START[MIRROR](site) as server:
                    _answer(server)
                    seconds = time.monotonic() - began
                    bench.add(server.name, case, {START_SECONDS: seconds, "CPU s": server.cpu()})


def _answer(server: Server) -> None:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=60)
    with closing(connection):
        connection.request("GET", "/healthz")
        if (status := connection.getresponse().status) != 200:
            raise RuntimeError(f"/healthz answered with {status}")


def _with_blobs(site: Site, blobs: int) -> Site:
    """Let a mirror leave a cache with so many blobs: copies of a proven one under other names."""
    with START[MIRROR](site) as server:
        _answer(server)
        if blobs:
            _answered(server).close()
    if not blobs:
        return site
    folder = site.directory / "cache" / "blobs"
    [sidecar] = folder.glob("??/*.json")
    facts = json.loads(sidecar.read_text())
    blob = sidecar.with_suffix("")
    for _ in range(blobs - 1):
        key = secrets.token_hex(32)
        target = folder / key[:2] / key
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(blob, target)
        target.with_suffix(".json").write_text(json.dumps(facts | {"sha256": key}))
    with START[MIRROR](site) as server:
        _answer(server)
    return site


def _answered(server: Server) -> socket.socket:
    """A connection that has got the package."""
    sock = socket.create_connection((HOST, server.port))
    ask(sock, get(PATH))
    return sock


def blobs(bench: Bench) -> None:
    """Hits of a small package on kept connections, beside more and more others."""
    with bench.origin() as origin, ExitStack() as stack:
        origin.payload(PATH, SMALL)
        servers = {
            _count(number, "blobs"): stack.enter_context(
                START[MIRROR](_with_blobs(bench.site(origin, [VERSION]), number))
            )
            for number in bench.pick((10, 1000, 20_000), (10, 1000))
        }
        for _ in bench.rounds(4):
            for case, server in servers.items():
                plan = Plan(server.port, [get(PATH)], 8, bench.pick(2.0, 0.8), kept=True)
                told, cpu = bench.measure(server, plan)
                values = {HIT_CPU: cpu / told.answers * 1e6, MEMORY: server.memory() / 1e6}
                bench.add(server.name, case, values)


def machines(bench: Bench) -> None:
    """Checks of machines that are in the fleet database already, on kept connections."""
    with bench.origin() as origin, ExitStack() as stack:
        checks.publish(origin)
        servers = {}
        for number in bench.pick((1000, 100_000, 1_000_000), (1000, 50_000)):
            site = bench.site(origin, [VERSION])
            with START[MIRROR](site) as server:
                checks.warm(bench, server)
            _know(site.directory / "state" / "fleet.db", number)
            server = stack.enter_context(START[MIRROR](site))
            checks.warm(bench, server)
            servers[_count(number, "machines")] = server
        for _ in bench.rounds(3):
            for case, server in servers.items():
                values = checks.check(bench, server, kept=True, machines=int(case.x))
                bench.add(server.name, case, values | {MEMORY: server.memory() / 1e6})


def _know(file: Path, number: int) -> None:
    """Make the database know so many machines: copies of one that has asked."""
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA cache_size = -500000")
        database.row_factory = sqlite3.Row
        row = dict(database.execute("SELECT * FROM machines LIMIT 1").fetchone())
        names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        copies = (
            {**row, "machineid": machine_id(i), "id": machine_key(machine_id(i), row["app_id"])}
            for i in range(number)
        )
        database.executemany(f"INSERT OR IGNORE INTO machines ({names}) VALUES ({marks})", copies)
        database.commit()


def connections(bench: Bench) -> None:
    """Connections that have got an answer, and are kept."""
    with bench.origin() as origin:
        origin.payload(PATH, SMALL)
        with bench.servers(origin, (MIRROR, NGINX, VARNISH), [VERSION]) as servers:
            for server in servers:
                bench.clients.run(Plan(server.port, [get(PATH)]))
                kept: list[socket.socket] = []
                for number in (10, 1000, bench.pick(5000, 2000)):
                    kept += [_answered(server) for _ in range(number - len(kept))]
                    values = {MEMORY: server.memory() / 1e6}
                    bench.add(server.name, _count(number, "connections"), values)
                for sock in kept:
                    sock.close()


ROWS = (
    Row("idle", "memory of an idle server", (Metric(MEMORY),), idle),
    Row(
        "start",
        "start, with the cache of another run",
        (Metric(START_SECONDS), Metric("CPU s")),
        start,
    ),
    Row(
        "machines",
        "update check, kept connections, by known machines",
        (*checks.METRICS, Metric(MEMORY)),
        machines,
        "known machines",
    ),
    Row(
        "blobs",
        "warm hit of 2 kB, by blobs in the cache",
        (Metric(HIT_CPU), Metric(MEMORY)),
        blobs,
        "blobs",
    ),
    Row("connections", "memory by kept connections", (Metric(MEMORY),), connections, "connections"),
)
