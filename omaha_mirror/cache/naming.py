"""How a file becomes a proven blob: the order of the steps is what survives a crash."""

from __future__ import annotations

import json
from pathlib import Path

from omaha_mirror.cache.blob import Proof
from omaha_mirror.cache.source import Validator
from omaha_mirror.state_file import sync, sync_folder


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
