"""A catalog before a scripted release server, and a clock that can be put forward."""

import hashlib
import random
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from omaha_mirror.catalog import (
    CannotProve,
    Catalog,
    LookupRequest,
    LookupResult,
    PackageFile,
    Pin,
    Reason,
    Release,
    Step,
    learn,
)
from omaha_mirror.omaha import (
    Action,
    AppRequest,
    Digest,
    Manifest,
    Package,
    UpdateCheck,
    UpdateStatus,
    Url,
)
from omaha_mirror.policy.decide import decide
from omaha_mirror.upstream.allowed import AllowList
from omaha_mirror.upstream.http import HttpFetcher
from omaha_mirror.upstream.release_server import ReleaseServer, RemotePackage
from omaha_mirror.upstream.requests import HttpSettings
from tests.support.clock import SetClock
from tests.support.upstream import Upstream

APP = "e96281a6-d1af-4bde-9a0a-97b76e56dc57"
BOARD = "amd64-usr"
VERSION = "3815.2.1"
PAYLOAD = "update.gz"
BODY = b"payload" * 1000
AZURE = b"azure" * 100
PIN = Pin(VERSION)
HOUR = 3600.0
DAY = 24 * HOUR


def path_of(name: str, version: str = VERSION) -> str:
    """Where the release server has a file."""
    return f"/{BOARD}/{version}/{name}"


def sha256(body: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(body).digest())


def package(name: str, body: bytes = BODY) -> Package:
    return Package(name=name, size=len(body), hash_sha256=sha256(body), required=name == PAYLOAD)


def release(*extras: str, version: str = VERSION, learnt: float = 0.0) -> Release:
    """A release with a payload and these extra packages."""
    packages = (package(PAYLOAD), *(package(name, AZURE) for name in extras))
    action = Action(event="postinstall", sha256=sha256(BODY))
    codebase = f"http://release.example/{version}/"
    return Release(
        app_id=APP,
        board=BOARD,
        version=version,
        check=UpdateCheck(
            status=UpdateStatus.OK,
            urls=(Url(codebase=codebase),),
            manifests=(Manifest(version=version, packages=packages, actions=(action,)),),
        ),
        urls={p.name: codebase + p.name for p in packages},
        learnt=learnt,
    )


def with_manifest(old: Release, manifest: Manifest) -> Release:
    """The same release, but for what it consists of."""
    return replace(old, check=replace(old.check, manifests=(manifest,)))


class Site:
    """One catalog file and the release server behind it; catalogs are opened and closed over it."""

    def __init__(self, upstream: Upstream, path: Path, clock: SetClock) -> None:
        self.upstream = upstream
        self.path = path
        self.clock = clock
        self.asked: list[LookupRequest] = []
        self.proven: list[str] = []
        self.held: set[Digest | None] = set()
        self.open: list[Catalog] = []
        self.fetcher = HttpFetcher(HttpSettings(AllowList(upstream.origin)))
        self._server = ReleaseServer(self.fetcher, upstream.origin)

    async def start(self) -> Catalog:
        catalog = Catalog(self.learn, self.path, PAYLOAD, clock=self.clock, rng=random.Random())
        await catalog.start()
        self.open.append(catalog)
        return catalog

    async def stop(self, catalog: Catalog) -> None:
        self.open.remove(catalog)
        await catalog.close()

    async def restart(self, catalog: Catalog) -> Catalog:
        await self.stop(catalog)
        return await self.start()

    async def learn(self, wanted: LookupRequest) -> LookupResult:
        self.asked.append(wanted)
        return await learn(wanted, self._server, self.prove, self.clock.time(), holds=self.holds)

    def holds(self, file: PackageFile) -> bool:
        return file.sha256 in self.held

    async def prove(self, package: RemotePackage) -> Digest:
        self.proven.append(package.name)
        async with self.fetcher.stream(package.url) as body:
            content = b"".join([chunk async for chunk in body.chunks()])
        if not content:
            raise CannotProve(f"{package.url} is empty")
        return sha256(content)

    async def line_down(self) -> None:
        """Refuse new connections and cut those that are kept alive."""
        await self.upstream.refuse()
        self.upstream.cut_all()

    def publish(self, extras: Iterable[str] = (), version: str = VERSION) -> None:
        self.upstream.put(path_of(PAYLOAD, version), BODY)
        for name in extras:
            self.upstream.put(path_of(name, version), AZURE)


async def ask(
    catalog: Catalog, oem: str = "", rule: Pin = PIN, *, wait: float = 30.0
) -> LookupResult | None:
    """Look a version up as a machine's check does, and give what is known then."""
    await catalog.look_up(APP, BOARD, rule.version, rule, oem, wait)
    return catalog.known(APP, BOARD, rule.version)


async def offered(catalog: Catalog, oem: str = "", rule: Pin = PIN) -> Release:
    """The release that is known after a look-up."""
    known = await ask(catalog, oem, rule)
    assert known is not None
    assert known.release is not None
    return known.release


async def quiet(catalog: Catalog) -> None:
    """Wait for the questions under way; a look-up does so only while nothing can be decided."""
    await catalog._lookups.quiet()


def reason(known: LookupResult | None, oem: str = "", rule: Pin = PIN) -> Reason:
    """What a machine is told that needs an update."""
    machine = AppRequest(appid=APP, board=BOARD, version="1.0.0", oem=oem)
    steps = [Step(rule.version, known or LookupResult())]
    return decide(machine, rule, steps, now=time.time(), app_ids=[APP]).reason


def names(release: Release) -> list[str]:
    return [file.name for file in release.files]
