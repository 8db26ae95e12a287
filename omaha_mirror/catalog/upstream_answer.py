"""Reading what an upstream server told: policy, or releases that every client can use, or nothing at all.

An answer in which one thing is wrong is refused as a whole: half of it would lead machines past a version that they
must step through.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from itertools import pairwise

from omaha_mirror.aio.workers import WORK
from omaha_mirror.catalog.model import Release
from omaha_mirror.omaha import (
    AT_ONCE,
    AppResponse,
    AppStatus,
    BadDigest,
    BadResponse,
    BadVersion,
    Digest,
    Manifest,
    Package,
    Response,
    UpdateCheck,
    UpdateStatus,
    Version,
    check_for_sysexts,
    read_answer,
)
from omaha_mirror.upstream.errors import Forbidden

MAX_MANIFESTS = 32
MAX_PACKAGES = 128
"""In one manifest."""
MAX_TEXT = 96 * 1024
"""Bytes of all that is told of one version, about: it is written for machines on the event loop, and kept on disk."""
TAG = 8
"""Bytes that an element takes besides what it says, at least."""
MAX_SIZE = 16 * 1024**3
"""Bytes of one package."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}", re.ASCII)
"""Of a package: the same file for everybody who makes a path of it, with no need to escape anything."""

NO_SUCH_TRACK = (
    "upstream may know no such track: if it has another name there, give that as upstream_track"
)
_BUSY = {
    AppStatus.MAX_UPDATES_PER_PERIOD_LIMIT_REACHED,
    AppStatus.MAX_CONCURRENT_UPDATES_LIMIT_REACHED,
    AppStatus.UPDATE_IN_PROGRESS_ON_INSTANCE,
    AppStatus.COULD_NOT_CHECK_UPDATES_STATS,
    AppStatus.INSTANCE_REGISTRATION_FAILED,
}
"""What passes by itself, and says nothing about releases (nebraska backend/pkg/api/updates.go:67-341)."""


class Unusable(Exception):
    """An answer that a client would choke on, or that is not allowed; the message is for people."""


class UpstreamPolicy(StrEnum):
    """What an answer means for the track."""

    OFFERS = "offers"
    NO_UPDATE = "no-update"
    WITHDRAWN = "withdrawn"
    BUSY = "busy"
    """For now: what is known stays."""


@dataclass(frozen=True, slots=True)
class OfferedRelease:
    """A release of an answer.

    Attributes:
        release: as told, not yet looked up.
        floor: whether no machine below may pass it by.
    """

    release: Release
    floor: bool


@dataclass(frozen=True, slots=True)
class UpstreamReading:
    """What an upstream server told.

    Attributes:
        policy: whether it offers anything.
        releases: that it offers, oldest first; the last is the target.
        detail: upstream's own words, where it offers nothing.
    """

    policy: UpstreamPolicy
    releases: tuple[OfferedRelease, ...] = ()
    detail: str = ""


def read_told(
    response: Response,
    app_id: str,
    board: str,
    *,
    allowed: Callable[[str], object],
    now: float,
    deltas: bool = False,
) -> UpstreamReading:
    """Read the answer about one application.

    Args:
        response: the answer to an update check.
        app_id: the application that was asked about; lower case, without braces.
        board: the board that was asked about.
        allowed: raises `Forbidden` for an address that may not be asked.
        now: in seconds since the epoch.
        deltas: whether one is taken: it fits machines of the version that was asked as, and no others.

    Raises:
        Unusable: with the first thing that is wrong with it.
    """
    app = next((app for app in response.apps if app.app_id == app_id), None)
    if app is None:
        raise Unusable(f"the answer does not speak of the application {app_id}")
    check, policy = app.update_check, _policy(app)
    if check is None or policy is not UpstreamPolicy.OFFERS:
        words = f"{app.status} {check.status if check is not None else ''}"
        # Nebraska says so of a track that it has not (backend/pkg/omaha/omaha.go:133).
        unknown = app.status == AppStatus.FAILED_TO_RETRIEVE_UPDATE_PACKAGE_INFO
        more = f"; {NO_SUCH_TRACK}" if unknown else ""
        return UpstreamReading(policy, detail=f"upstream answered {words.strip()[:160]}{more}")
    try:
        found = UpstreamReading(policy, _releases(app, check, board, allowed, now))
    except (BadResponse, BadVersion, Forbidden) as error:
        raise Unusable(str(error)) from error
    for offered in found.releases:
        if offered.release.is_delta and not deltas:
            name = offered.release.payload.name
            raise Unusable(f"{name} is a delta, which fits some machines only")
    return found


async def read_soon(
    response: Response, read: Callable[[Response], UpstreamReading]
) -> UpstreamReading:
    """Read an answer, in a worker where that might take more than 10 ms. Raises Unusable."""
    return await WORK.call(read, response) if _is_longer(response, AT_ONCE) else read(response)


def _policy(app: AppResponse) -> UpstreamPolicy:
    """The app's status is the reason, where it is an error; the status of the check alone does not tell limits."""
    if app.status in _BUSY:
        return UpstreamPolicy.BUSY
    if app.status.startswith("error-") or app.status == AppStatus.RESTRICTED:
        return UpstreamPolicy.WITHDRAWN
    if app.update_check is None:
        raise Unusable("the answer has no updatecheck")
    status = app.update_check.status
    if status == UpdateStatus.OK:
        return UpstreamPolicy.OFFERS
    if status == UpdateStatus.NO_UPDATE:
        return UpstreamPolicy.NO_UPDATE
    if status.startswith("error-"):
        return UpstreamPolicy.WITHDRAWN
    raise Unusable(f"the update check was answered {status[:80]!r}, which means nothing")


def _releases(
    app: AppResponse,
    check: UpdateCheck,
    board: str,
    allowed: Callable[[str], object],
    now: float,
) -> tuple[OfferedRelease, ...]:
    if not 0 < len(check.manifests) <= MAX_MANIFESTS:
        raise Unusable(f"{len(check.manifests)} manifests, where 1 to {MAX_MANIFESTS} are taken")
    manifests = sorted(
        map(_corrected, check.manifests), key=lambda manifest: Version.parse(manifest.version)
    )
    # Every client reads all urls; machines here are told the first alone.
    first = replace(check, urls=check.urls[:1])
    for manifest in manifests:
        alone = replace(app, update_check=replace(check, manifests=(manifest,)))
        read_answer(Response(apps=(alone,)))
        check_for_sysexts(Response(apps=(alone,)))
        _check_manifest(manifest)
        _check_text(replace(first, manifests=(manifest,)))
    codebase = first.urls[0].codebase
    allowed(codebase)
    target = _target(manifests)
    return tuple(
        OfferedRelease(
            Release(
                app_id=app.app_id,
                board=board,
                version=manifest.version,
                check=replace(first, manifests=(manifest,)),
                urls={package.name: codebase + package.name for package in manifest.packages},
                learnt=now,
            ),
            floor=manifest is not target or manifest.is_floor is True,
        )
        for manifest in manifests
    )


def _target(manifests: Sequence[Manifest]) -> Manifest:
    """The one that is said to be; else the last that is no floor; else the newest. All must lead to it."""
    for older, newer in pairwise(manifests):
        if Version.parse(older.version) == Version.parse(newer.version):
            raise Unusable(f"two manifests of version {newer.version}")
    newest = manifests[-1]
    said = [manifest for manifest in manifests if manifest.is_target]
    target = (said or [m for m in manifests if not m.is_floor] or [newest])[-1]
    if target is not newest:
        raise Unusable(f"the step {newest.version} is above the target {target.version}")
    return target


def _corrected(manifest: Manifest) -> Manifest:
    return replace(manifest, packages=tuple(map(_corrected_package, manifest.packages)))


def _corrected_package(package: Package) -> Package:
    """Read the SHA-256 in base64 that go-omaha's serve-package sends, and ue-rs refuses, as the digest it is."""
    try:
        digest = Digest.from_base64(dict(package.extra)["hash_sha256"])
    except (KeyError, BadDigest):
        return package
    rest = tuple(pair for pair in package.extra if pair[0] != "hash_sha256")
    return replace(package, hash_sha256=digest, extra=rest)


def _check_text(check: UpdateCheck) -> None:
    if _is_longer(check, MAX_TEXT):
        version = check.manifests[0].version
        raise Unusable(f"what is told of {version} takes more than {MAX_TEXT} bytes")


def _is_longer(message: object, limit: int) -> bool:
    """Whether a message, or a part of one, takes about so many bytes more; looks at no more of it than it must."""
    parts, left = [message], limit
    while parts and left >= 0:
        part = parts.pop()
        if isinstance(part, str | bytes):
            left -= len(part)
        elif isinstance(part, tuple):
            parts.extend(part)
        elif is_dataclass(part):
            left -= TAG
            parts.extend(getattr(part, field.name) for field in fields(part))
    return left < 0


def _check_manifest(manifest: Manifest) -> None:
    """Refuse what clients would take, and should not; what they refuse themselves is refused before."""
    names = Counter(package.name for package in manifest.packages)
    if len(manifest.packages) > MAX_PACKAGES:
        raise Unusable(f"{len(manifest.packages)} packages, where {MAX_PACKAGES} are taken")
    for package in manifest.packages:
        if not NAME.fullmatch(package.name):
            raise Unusable(f"the package name {package.name[:80]!r} is not a plain file name")
        if names[package.name] > 1:
            raise Unusable(f"two packages are named {package.name}")
        if package.size is None or not 0 < package.size <= MAX_SIZE:
            raise Unusable(
                f"{package.name} has {package.size} bytes, where 1 to {MAX_SIZE} are taken"
            )
    payload = manifest.packages[0]
    action = next(action for action in manifest.actions if action.event == "postinstall")
    if payload.hash_sha256 not in (None, action.sha256):
        raise Unusable(f"{payload.name} has one SHA-256 as a package and another as an update")
