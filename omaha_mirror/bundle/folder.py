"""Reads a folder as a bundle: an unpacked one, one with a payload, or one with packages that were saved from CoreUpdate.

updateservicectl's `package download` saves APPID_VERSION_NAME beside APPID_VERSION_info.json, CoreUpdate's
record of the package: digests in base64, the size as a text (updateservicectl/pkg.go).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.bundle.files import read_file
from omaha_mirror.bundle.layout import DESCRIPTION, ReadMember
from omaha_mirror.bundle.model import (
    LIMIT,
    BadBundle,
    Bundle,
    Entry,
    Member,
    MissingOption,
    read_bundle,
)
from omaha_mirror.catalog.model import Release
from omaha_mirror.omaha import (
    Action,
    Digest,
    Manifest,
    OmahaError,
    Package,
    UpdateCheck,
    UpdateStatus,
    Url,
    Version,
    normalise_app_id,
)

PAYLOADS = ("update.gz", "flatcar_production_update.gz")
EXTRAS = ("oem-*.gz", "flatcar-*.gz")
NOWHERE = "http://import.invalid/"
"""The URL of packages that came from no server; no such host can exist (RFC 2606, section 2)."""
_BAD = (ValueError, LookupError, TypeError, AttributeError, RecursionError, OmahaError)


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """What the operator must say of a folder without a description."""

    app_id: str
    board: str
    track: str | None
    version: str | None


@dataclass(frozen=True, slots=True)
class _Saved:
    """A package in a folder, with its digests and size."""

    path: Path
    package: Package


async def open_folder(folder: Path, options: FolderOptions) -> tuple[bytes, Bundle, ReadMember]:
    """The description of a folder, as bytes and parsed, and the function that reads its packages.

    Raises:
        MissingOption: the track or the version is missing.
        BadBundle: the folder is of no known kind, or a file in it is damaged.
        OSError: the folder cannot be read.
    """
    if (folder / DESCRIPTION).exists():
        text = await _small(folder / DESCRIPTION)
        return text, read_bundle(text), _reads(lambda member: folder / member.path)
    if options.track is None:
        raise MissingOption(f"{folder} does not say for which track it is: add --track")
    infos = _matching(folder, "*_info.json")
    if not infos and options.version is None:
        raise MissingOption(
            f"{folder} has no {DESCRIPTION} and no *_info.json; to import a payload, add --version"
        )
    try:
        if infos:
            found = [await _core_update(info, options.board) for info in infos]
        else:
            found = [await _payload(folder, options)]
        found.sort(key=lambda item: (item[0].app_id, Version.parse(item[0].version)))
    except _BAD as error:
        raise BadBundle(f"{folder} cannot be used: {error!s:.300}") from error
    entries = tuple(_entry(release, saved) for release, saved in found)
    bundle = Bundle(options.track, options.board, entries)
    paths = {
        member.path: item.path
        for entry, (_, saved) in zip(entries, found, strict=True)
        for member, item in zip(entry.members, saved, strict=True)
    }
    text = bundle.dump()
    return text, read_bundle(text), _reads(lambda member: paths[member.path])


def _matching(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


def _reads(where: Callable[[Member], Path]) -> ReadMember:
    return lambda member, start: _exactly(where(member), start, member)


async def _exactly(path: Path, start: int, member: Member) -> AsyncGenerator[bytes]:
    """The bytes of a package, exactly as many as its size says."""
    left = member.size - start
    async for chunk in read_file(path, start):
        yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            break
    if left:
        raise BadBundle(f"{path} does not have the {member.size} bytes that it should have")


async def _core_update(info: Path, board: str) -> tuple[Release, list[_Saved]]:
    record = json.loads(await _small(info))
    app_id, version, url = str(record["appId"]), str(record["version"]), str(record["url"])
    source, name = urlsplit(url), url.rpartition("/")[2]
    if source.scheme not in ("http", "https"):
        raise ValueError(f"{info.name} names no http address")
    if info.name != f"{app_id}_{version}_info.json":
        raise ValueError(f"{info.name} describes the package {version!r:.80} of {app_id!r:.80}")
    saved = await _saved(info.with_name(f"{app_id}_{version}_{name}"), name)
    package = saved.package
    sums = {"sha1Sum": package.hash, "sha256Sum": package.hash_sha256}
    wrong = [
        key for key, digest in sums.items() if record.get(key) and record[key] != _base64(digest)
    ]
    if wrong or str(package.size) != str(record["size"]):
        raise ValueError(
            f"{saved.path.name} is damaged: {', '.join(wrong) or 'size'} differs from {info.name}"
        )
    action = {
        "metadata_signature_rsa": str(record.get("metadataSignatureRsa") or ""),
        "metadata_size": str(record.get("metadataSize") or ""),
    }
    codebase = url.removesuffix(name)
    return _made(normalise_app_id(app_id), board, version, [saved], codebase, action), [saved]


async def _payload(folder: Path, options: FolderOptions) -> tuple[Release, list[_Saved]]:
    name = next((name for name in PAYLOADS if (folder / name).exists()), None)
    if name is None or options.version is None:
        raise ValueError(f"it has no {' or '.join(PAYLOADS)}")
    extras = [path for pattern in EXTRAS for path in _matching(folder, pattern)]
    saved = [await _saved(path, path.name) for path in (folder / name, *extras)]
    source = f"{NOWHERE}{options.board}/{options.version}/"
    return _made(options.app_id, options.board, options.version, saved, source, {}), saved


async def _saved(path: Path, name: str) -> _Saved:
    """A file as a package. Raises OSError, ValueError if its sidecar disagrees."""
    sha1, sha256, size = hashlib.sha1(usedforsecurity=False), hashlib.sha256(), 0
    async for chunk in read_file(path):
        await in_worker(sha1.update, chunk)
        await in_worker(sha256.update, chunk)
        size += len(chunk)
    sidecar = path.with_name(f"{path.name}.sha256")
    if sidecar.exists() and (await _small(sidecar)).split()[:1] != [sha256.hexdigest().encode()]:
        raise ValueError(f"{path.name} is damaged: its SHA-256 is not the one in {sidecar.name}")
    package = Package(
        name=name,
        hash=Digest("sha1", sha1.digest()),
        hash_sha256=Digest("sha256", sha256.digest()),
        size=size,
        required=not any(path.match(pattern) for pattern in EXTRAS),
    )
    return _Saved(path, package)


def _made(
    app_id: str,
    board: str,
    version: str,
    saved: Iterable[_Saved],
    source: str,
    metadata: Mapping[str, Any],
) -> Release:
    payload, *extras = (item.package for item in saved)
    action = Action(
        event="postinstall", sha256=payload.hash_sha256, disable_payload_backoff=True, **metadata
    )
    manifest = Manifest(version=version, packages=(payload, *extras), actions=(action,))
    return Release(
        app_id=app_id,
        board=board,
        version=version,
        check=UpdateCheck(
            status=UpdateStatus.OK, urls=(Url(codebase=source),), manifests=(manifest,)
        ),
        urls={package.name: source + package.name for package in manifest.packages},
    )


def _entry(release: Release, saved: Iterable[_Saved]) -> Entry:
    members = []
    for file, item in zip(release.files, saved, strict=True):
        if item.package.hash_sha256 is not None:
            members.append(Member(release, file, item.package.hash_sha256))
    return Entry(release, False, tuple(members))


async def _small(path: Path) -> bytes:
    text = bytearray()
    async for chunk in read_file(path):
        text += chunk
        if len(text) > LIMIT:
            raise BadBundle(f"{path} has more than {LIMIT} bytes")
    return bytes(text)


def _base64(digest: Digest | None) -> str:
    return digest.base64 if digest is not None else ""
