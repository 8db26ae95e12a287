"""Learning a pinned release from the release server: digests from sidecars, sizes from HEAD, no download."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from omaha_mirror.catalog.model import Known, Release
from omaha_mirror.catalog.reasons import Reason
from omaha_mirror.omaha import Action, Digest, Manifest, Package
from omaha_mirror.upstream.errors import Gone, UpstreamError
from omaha_mirror.upstream.releases import ReleaseServer, RemotePackage

Prove = Callable[[RemotePackage], Awaitable[Digest]]
"""Fetches a package of which no digest is known, and gives its SHA-256. Raises `CannotProve`."""


class CannotProve(Exception):
    """A package without a sidecar could not be fetched; the message is for people."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be learnt.

    Attributes:
        app_id: the application; lower case, without braces.
        board: one of `BOARDS`.
        version: of the release.
        payload: file name of the update itself.
        extras: names of packages that belong to the release if the release server has them.
        before: the release as it was learnt last time.
    """

    app_id: str
    board: str
    version: str
    payload: str
    extras: tuple[str, ...] = ()
    before: Release | None = None


async def learn(wanted: Wanted, server: ReleaseServer, prove: Prove, now: float) -> Known:
    """Ask the release server for everything that an offer needs. Never raises for what upstream does."""
    try:
        payload = await _describe(server, prove, wanted, wanted.payload)
    except Gone as error:
        return Known(reason=Reason.NOT_RELEASED, detail=str(error))
    except (UpstreamError, CannotProve) as error:
        return Known(reason=Reason.UNREACHABLE, detail=str(error))
    extras, lacking = [], {}
    for name in wanted.extras:
        try:
            extras.append(await _describe(server, prove, wanted, name))
        except Gone:
            continue
        except (UpstreamError, CannotProve) as error:
            lacking[name] = str(error)
    release = _release(wanted, payload, extras, now)
    return Known(release, looked_up=frozenset(wanted.extras), lacking=lacking)


async def _describe(
    server: ReleaseServer, prove: Prove, wanted: Wanted, name: str
) -> RemotePackage:
    found = await server.describe(wanted.board, wanted.version, name)
    if found.sha256 is None:
        found = replace(found, sha256=_proven_before(wanted, found) or await prove(found))
    return found


def _proven_before(wanted: Wanted, found: RemotePackage) -> Digest | None:
    """The digest that an earlier fetch gave: nothing but address and size could tell that a file is another one."""
    old = wanted.before.file(found.name) if wanted.before is not None else None
    same = old is not None and (old.url, old.size) == (found.url, found.size)
    return old.sha256 if old is not None and same else None


def _release(
    wanted: Wanted, payload: RemotePackage, extras: Iterable[RemotePackage], now: float
) -> Release:
    files = (payload, *extras)
    packages = tuple(
        Package(name=f.name, size=f.size, hash_sha256=f.sha256, required=f is payload)
        for f in files
    )
    postinstall = Action(event="postinstall", sha256=payload.sha256, disable_payload_backoff=True)
    return Release(
        app_id=wanted.app_id,
        board=wanted.board,
        version=wanted.version,
        manifest=Manifest(version=wanted.version, packages=packages, actions=(postinstall,)),
        urls={f.name: f.url for f in files},
        learnt=now,
    )
