"""What lies in a cache directory, as it is written down there."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from omaha_mirror.cache.source import Validator
from omaha_mirror.state_file import note

LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Facts:
    """What is written down about a proven blob.

    Attributes:
        size: in bytes; None where it is not known any more.
        sha256: 32 raw bytes, or None.
        proven_by: what it was held against, or "".
        source: the URL that it came from, or "".
        signed_by: who signed it, or "" where nobody wanted to know.
        validator: the generation that it was fetched as.
        verified: when its bytes were last found right, in seconds since the epoch; 0 where nobody knows.
    """

    size: int | None = None
    sha256: bytes | None = None
    proven_by: str = ""
    source: str = ""
    signed_by: str = ""
    validator: Validator = field(default_factory=dict)
    verified: float = 0.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a blob is not to be served, as long as the terms are these, although its digest is right."""

    reason: str
    terms: str


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that is no proven blob: a growing one that may go on, or wrong bytes that were put aside.

    Attributes:
        kind: which of both.
        key: of the blob that it should have become.
        name: of the file.
        size: bytes on disk.
        changed: when it was last written or put aside, in seconds since the epoch.
    """

    kind: Literal["partial", "quarantine"]
    key: str
    name: str
    size: int
    changed: float


@dataclass(frozen=True, slots=True)
class Removed:
    """What went, or would go."""

    kind: Literal["blob", "partial", "quarantine"]
    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What a collection removed, and why it could not make enough room ("" where it could)."""

    removed: tuple[Removed, ...]
    short: str = ""


def facts(sidecar: Path) -> Facts:
    """What a sidecar says; what cannot be read there is not known."""

    def read(text: bytes) -> Facts:
        told = json.loads(text)
        return Facts(
            size=int(told["size"]),
            sha256=bytes.fromhex(told["sha256"]),
            proven_by=str(told["proven_by"]),
            source=str(told["source"]),
            signed_by=str(told.get("signed_by", "")),
            validator=dict(told.get("validator", {})),
            verified=sidecar.stat().st_mtime,
        )

    return note(sidecar, LIMIT, read) or Facts()


def refusal(file: Path) -> Refusal | None:
    """What is written down about a blob that is not to be served; None where it cannot be read."""

    def read(text: bytes) -> Refusal:
        told = json.loads(text)
        return Refusal(str(told["reason"]), str(told["terms"]))

    return note(file, LIMIT, read)


def leftover(kind: Literal["partial", "quarantine"], file: Path) -> Leftover | None:
    """One file of `partial/` or `quarantine/`; None when it has gone meanwhile."""
    try:
        status = file.lstat()
    except FileNotFoundError:
        return None
    return Leftover(kind, file.stem, file.name, status.st_blocks * 512, status.st_mtime)
