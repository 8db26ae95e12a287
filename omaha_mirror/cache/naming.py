"""How a file becomes a proven blob: the order of the steps is what survives a crash."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import BinaryIO

from omaha_mirror.cache.blob import Proof
from omaha_mirror.cache.source import Validator


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
        sync(file)
    draft.rename(target.with_suffix(".json"))
    data.rename(target)
    for folder in (target.parent, target.parent.parent, data.parent):
        sync_folder(folder)


def sync(file: BinaryIO) -> None:
    """Make what was written survive a power cut. Raises OSError."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
