"""A blob and its drafts in the default store."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from omaha_mirror.cache import Expected, Proof
from omaha_mirror.cache.blob import Hasher
from omaha_mirror.cache.draft import DiskDraft

DATA = os.urandom(100_000)


SIZE = len(DATA)


EXPECTED = Expected(SIZE, hashlib.sha256(DATA).digest(), source="http://upstream.test/file")


KEY = EXPECTED.key


VALIDATOR = {"etag": '"1"'}


Opened = Callable[..., DiskDraft]


def proof(data: bytes = DATA, expected: Expected = EXPECTED) -> Proof:
    hasher = Hasher(expected)
    hasher.update(data)
    verdict = hasher.judge()
    assert isinstance(verdict, Proof)
    return verdict


def half_done(opened: Opened) -> None:
    """A draft with [0, 30000), [60000, 70000) and [70000, 80000), each a line of the journal, that was never recorded."""
    draft = opened()
    draft.begin(VALIDATOR)
    draft.write(0, [DATA[:10_000], DATA[10_000:30_000]])
    draft.write(60_000, [DATA[60_000:70_000]])
    draft.write(70_000, [DATA[70_000:80_000]])
    draft.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())
