"""Reads the answer of an upstream Omaha server: its policy, and releases that every client can use.

An answer with any fault is refused as a whole: a part of it could lead machines past a floor.
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
    Url,
    Version,
    check_for_sysexts,
    read_answer,
)
from omaha_mirror.upstream.errors import Forbidden

MAX_MANIFESTS = 32
MAX_PACKAGES = 128
"""In one manifest."""
MAX_TEXT = 96 * 1024
"""Approximate bytes of one version's answer: it is serialised on the event loop, and stored on disk."""
TAG = 8
"""Least bytes of an element besides its text."""
MAX_SIZE = 16 * 1024**3
"""Bytes of one package."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}", re.ASCII)
"""Of a package: it needs no escape in any path or URL."""

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
"""Limits that pass by themselves, and say nothing about releases (nebraska backend/pkg/api/updates.go:67-341)."""


class Unusable(Exception):
    """An answer that a client would refuse, or that is not allowed; the message is for people."""


class UpstreamPolicy(StrEnum):
    """What an answer means for the track."""

    OFFERS = "offers"
    NO_UPDATE = "no-update"
    WITHDRAWN = "withdrawn"
    BUSY = "busy"
    """A limit: the earlier answer stays in force."""


@dataclass(frozen=True, slots=True)
class OfferedRelease:
    """A release of an answer.

    Attributes:
        release: from its manifest, not yet looked up.
        floor: whether each machine below must install it.
    """

    release: Release
    floor: bool


@dataclass(frozen=True, slots=True)
class UpstreamReading:
    """The answer of an upstream server about one application.

    Attributes:
        policy: whether it offers releases.
        releases: the offered ones, oldest first; the last is the target.
        detail: upstream's own words if it offers nothing.
    """

    policy: UpstreamPolicy
    releases: tuple[OfferedRelease, ...] = ()
    detail: str = ""


def read_upstream(
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
        allowed: raises `Forbidden` for a URL that packages may not come from.
        now: in seconds since the epoch.
        deltas: whether a delta is accepted: it fits only machines of the version in the question.

    Raises:
        Unusable: with the first fault.
    """
    app = next((app for app in response.apps if app.app_id == app_id), None)
    if app is None:
        raise Unusable(f"the answer has no application {app_id}")
    check, policy = app.update_check, _policy(app)
    if check is None or policy is not UpstreamPolicy.OFFERS:
        words = f"{app.status} {check.status if check is not None else ''}"
        # Nebraska's answer for an unknown track (backend/pkg/omaha/omaha.go:133).
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
            raise Unusable(f"{name} is a delta, which fits machines of one version only")
    return found


async def read_off_loop(
    response: Response, read: Callable[[Response], UpstreamReading]
) -> UpstreamReading:
    """Read an answer; in a worker if it might take more than 10 ms. Raises Unusable."""
    return await WORK.call(read, response) if _is_longer(response, AT_ONCE) else read(response)


def _policy(app: AppResponse) -> UpstreamPolicy:
    """The policy from the app's status if it is an error, else from the updatecheck's, which does not name limits."""
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
    raise Unusable(f"the updatecheck has the unknown status {status[:80]!r}")


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
    check = replace(check, urls=tuple(map(_corrected_url, check.urls)))
    # Clients check all urls, but the mirror sends only the first.
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
    """The manifest marked as the target, else the last that is no floor, else the newest. None may be newer."""
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


def _corrected_url(url: Url) -> Url:
    """Accept a codebase that update_engine ends with a slash itself (update_engine/omaha_request_action.cc:524)."""
    if not url.codebase or url.codebase.endswith("/"):
        return url
    return replace(url, codebase=f"{url.codebase}/")


def _corrected_package(package: Package) -> Package:
    """Accept the base64 SHA-256 of go-omaha's serve-package, which ue-rs refuses."""
    try:
        digest = Digest.from_base64(dict(package.extra)["hash_sha256"])
    except (KeyError, BadDigest):
        return package
    rest = tuple(pair for pair in package.extra if pair[0] != "hash_sha256")
    return replace(package, hash_sha256=digest, extra=rest)


def _check_text(check: UpdateCheck) -> None:
    if _is_longer(check, MAX_TEXT):
        version = check.manifests[0].version
        raise Unusable(f"the answer about {version} takes more than {MAX_TEXT} bytes")


def _is_longer(message: object, limit: int) -> bool:
    """Whether a message, or a part of one, has more than about `limit` bytes; it is read only that far."""
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
    """Refuse what clients would accept but should not; `read_answer` refuses the rest."""
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
