"""The heads of blobs as files: `<key>`, each with the size and the SHA-256 of one head."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from omaha_mirror.cache.blob import Head
from omaha_mirror.state_file import note, replace_file

LIMIT = 4096


def load(folder: Path, names: re.Pattern[str]) -> dict[str, Head]:
    """All that can be read, oldest first, by its name. Raises OSError."""
    files = (file for file in _oldest_first(folder) if names.fullmatch(file.name))
    found = {file.name: note(file, LIMIT, _read) for file in files}
    return {key: head for key, head in found.items() if head is not None}


def keep(folder: Path, key: str, head: Head, most: int) -> None:
    """Write one down, whole or not at all, and remove the oldest beyond `most`. Raises OSError."""
    told = {"size": head.size, "sha256": head.sha256.hex()}
    replace_file(folder / key, json.dumps(told).encode() + b"\n")
    for old in _oldest_first(folder)[:-most]:
        old.unlink(missing_ok=True)


def _oldest_first(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda file: file.lstat().st_mtime)


def _read(text: bytes) -> Head | None:
    told = json.loads(text)
    head = Head(int(told["size"]), bytes.fromhex(told["sha256"]))
    is_one = head.size > 0 and len(head.sha256) == hashlib.sha256().digest_size
    return head if is_one else None
