"""The small files beside the blobs: sidecars, refusals and heads, written whole or not at all, read with a limit.

How a file becomes a proven blob is here too: the order of the steps is what survives a crash.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Literal

from omaha_mirror.cache.blob import Head, Proof
from omaha_mirror.cache.source import Validator
from omaha_mirror.cache.store import Facts, Leftover, Refusal
from omaha_mirror.state_file import note, replace_file, sync, sync_folder

LIMIT = 64 * 1024
HEAD_LIMIT = 4096


def give_name(data: Path, target: Path, proof: Proof, source: str, validator: Validator) -> None:
    """Make a file whose bytes are synced the blob `target`, with its sidecar. Raises OSError.

    Args:
        data: the file, on the same file system.
        target: the blob's path.
        proof: what the bytes were found to be.
        source: where they came from.
        validator: of the generation that was fetched; empty where nothing was.
    """
    target.parent.mkdir(exist_ok=True)
    describe(target, proof, source, validator)
    data.rename(target)
    for folder in (target.parent, target.parent.parent, data.parent):
        sync_folder(folder)


def describe(target: Path, proof: Proof, source: str, validator: Validator) -> None:
    """Write the sidecar of a blob. Raises OSError."""
    description = {
        "size": proof.size,
        "sha256": proof.sha256.hex(),
        "sha1": proof.sha1.hex() if proof.sha1 is not None else None,
        "proven_by": proof.proven_by,
        "signed_by": proof.signed_by,
        "source": source,
        "validator": dict(validator),
    }
    draft = target.with_suffix(".tmp")
    with draft.open("wb") as file:
        file.write(json.dumps(description, indent=1).encode() + b"\n")
        file.flush()
        sync(file.fileno())
    draft.rename(target.with_suffix(".json"))


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


def load_heads(folder: Path, names: re.Pattern[str]) -> dict[str, Head]:
    """All that can be read, oldest first, by its name. Raises OSError."""
    files = (file for file in _oldest_first(folder) if names.fullmatch(file.name))
    found = {file.name: note(file, HEAD_LIMIT, _read_head) for file in files}
    return {key: head for key, head in found.items() if head is not None}


def keep_head(folder: Path, key: str, head: Head, most: int) -> None:
    """Write one down, whole or not at all, and remove the oldest beyond `most`. Raises OSError."""
    described = {"size": head.size, "sha256": head.sha256.hex()}
    replace_file(folder / key, json.dumps(described).encode() + b"\n")
    for old in _oldest_first(folder)[:-most]:
        old.unlink(missing_ok=True)


def _oldest_first(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda file: file.lstat().st_mtime)


def _read_head(text: bytes) -> Head | None:
    told = json.loads(text)
    head = Head(int(told["size"]), bytes.fromhex(told["sha256"]))
    is_one = head.size > 0 and len(head.sha256) == hashlib.sha256().digest_size
    return head if is_one else None
