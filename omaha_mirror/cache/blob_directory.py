"""The directory of the default store, which can be listed and repaired with ordinary tools: names, notes and steps of it.

    blobs/ab/<key>          a proven blob; its access time is its last use, and is set by nothing else
    blobs/ab/<key>.json     what it is and how it was proven; its modification time is when the bytes were last found right
    partial/<key>.data      a growing blob (sparse)
    partial/<key>.json      its journal
    heads/<key>             the size and SHA-256 of a blob's head; stays when the blob goes
    incoming/<key>          a blob of an import, not complete yet; swept at the start
    quarantine/<key>.<n>    bytes that turned out wrong, for a look; the oldest go
    quarantine/<key>.left   a mark: some bytes were sent before that turned out wrong, or that nobody can judge any more
    quarantine/<key>.unsure a note: bytes of a proven blob were sent while it was verified again
    quarantine/<key>.not    why a blob must not be served although its digest is right

What a crash can do is decided by the order of the steps, and by nothing else:

* Of the journal no more is believed than the data bears out. Bytes and their line are written together, before a byte
  of them can be sent, so a killed process loses nothing; `record` bounds the loss of a power cut.
* A blob gets its name only after its bytes and its sidecar were synced; the folder is synced after the rename. A name
  under `blobs/` is therefore always a whole, proven blob.
* The journal goes after that. A journal without data, or data without a journal, is a leftover and is swept.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, Literal

import structlog

from omaha_mirror.aio.clock import Clock
from omaha_mirror.cache.blob import Head, Proof
from omaha_mirror.cache.errors import Damaged, is_unreadable
from omaha_mirror.cache.heads import HEADS
from omaha_mirror.cache.source import Validator
from omaha_mirror.cache.store import Facts, Identity, Leftover, Refusal, Stored, identity_of
from omaha_mirror.state_file import note, put_aside, replace_file, sync, sync_folder

LOG = structlog.get_logger(__name__)
QUARANTINED = 4
MARKS = 1000
MARK = ".left"
REFUSAL = ".not"
DOUBT = ".unsure"
NOTES = {MARK, REFUSAL, DOUBT}
KEY = re.compile(r"[0-9a-f]{64}|sha1-[0-9a-f]{40}")
"""Names of proven blobs."""
NO_FILE = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV})
"""What opening says of a link, of what is below no folder, of a socket, and of a device without a driver."""
Found = os.DirEntry[str]
LIMIT = 64 * 1024
HEAD_LIMIT = 4096


class BlobDirectory:
    """Files in a directory. All methods block.

    Args:
        directory: for them.
        clock: dates the files that are removed by their age.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.directory = directory
        self.boot = clock.boot
        self._clock = clock
        self.blobs = directory / "blobs"
        self.partial = directory / "partial"
        self.quarantine = directory / "quarantine"
        self.arriving = directory / "incoming"
        self.known = directory / "heads"

    def make_folders(self) -> None:
        """Make those that are missing, also while the mirror runs; what is no folder is put aside. Raises OSError."""
        for folder in (self.blobs, self.partial, self.quarantine, self.arriving, self.known):
            if os.path.lexists(folder) and not folder.is_dir():
                LOG.error("not a folder", path=str(folder), outcome=put_aside(folder))
            folder.mkdir(exist_ok=True)

    def stored(self, *, signed: bool = True) -> Iterator[Stored]:
        """The proven blobs; changes nothing. `signed`: whether it matters by which key.

        To read a sidecar costs ten times as much as to find it. Where it does not matter, and the blob was not written
        since its sidecar was, the sidecar is not read: what it says of the size is true.
        """
        for key, file, sidecar in self._blobs():
            status = file.stat(follow_symlinks=False)
            is_file, size = stat.S_ISREG(status.st_mode), status.st_size
            is_older = sidecar is not None and status.st_mtime <= _written(sidecar)
            facts = Facts(size) if is_file and is_older and not signed else self.describe(key)
            is_whole = is_file and facts.size in (None, size)
            is_described = facts.size is not None
            yield Stored(key, size, status.st_atime, facts.signed_by, is_whole, is_described)

    def verifications(self) -> dict[str, float]:
        """See `Store.verifications`."""
        return {key: _written(sidecar) if sidecar else 0.0 for key, _, sidecar in self._blobs()}

    def _blobs(self) -> Iterator[tuple[str, Found, Found | None]]:
        """Each proven blob: its key, its file, and its sidecar."""
        for folder, found in self.folders():
            for name, file in found.items():
                if KEY.fullmatch(name) and name.rpartition("-")[2][:2] == folder.name:
                    yield name, file, found.get(f"{name}.json")

    def folders(self) -> Iterator[tuple[Path, dict[str, Found]]]:
        """The folders of proven blobs, and what is in each, by its name."""
        for folder in filter(Path.is_dir, self.blobs.glob("??")):
            with contextlib.suppress(FileNotFoundError, PermissionError):
                yield folder, {entry.name: entry for entry in os.scandir(folder)}

    def marks(self) -> dict[str, float]:
        """See `Store.marks`."""
        found, now = self.quarantine.glob(f"*{MARK}"), self._clock.stamp()
        marks = {file: file.lstat().st_mtime for file in found}
        for file in [file for file, when in marks.items() if when > now]:
            date(file, now)
        return {file.name.removesuffix(MARK): when for file, when in marks.items()}

    def mark(self, key: str) -> None:
        """See `Store.mark`."""
        mark = self.quarantine / f"{key}{MARK}"
        mark.touch()
        date(mark, self._clock.stamp())
        sync_folder(self.quarantine)

    def unmark(self, key: str) -> None:
        """See `Store.unmark`."""
        with contextlib.suppress(OSError):
            (self.quarantine / f"{key}{MARK}").unlink(missing_ok=True)

    def refusals(self) -> dict[str, Refusal]:
        """See `Store.refusals`."""
        found = ((file.stem, read_refusal(file)) for file in self.quarantine.glob(f"*{REFUSAL}"))
        return {key: refusal for key, refusal in found if refusal is not None}

    def refuse(self, key: str, refusal: Refusal) -> None:
        """See `Store.refuse`."""
        with contextlib.suppress(OSError):
            (self.quarantine / f"{key}{REFUSAL}").write_text(json.dumps(asdict(refusal)))

    def heads(self) -> dict[str, Head]:
        """See `Store.heads`."""
        files = (file for file in _oldest_first(self.known) if KEY.fullmatch(file.name))
        found = {file.name: note(file, HEAD_LIMIT, _read_head) for file in files}
        return {key: head for key, head in found.items() if head is not None}

    def keep_head(self, key: str, head: Head) -> None:
        """See `Store.keep_head`. It is written whole or not at all, and the oldest ones go."""
        described = {"size": head.size, "sha256": head.sha256.hex()}
        replace_file(self.known / key, json.dumps(described).encode() + b"\n")
        for old in _oldest_first(self.known)[:-HEADS]:
            old.unlink(missing_ok=True)

    def path(self, key: str) -> Path:
        """Where a proven blob is."""
        return self.blobs / key.rpartition("-")[2][:2] / key

    def open(self, key: str) -> BinaryIO:
        """See `Store.open`."""
        try:
            fd = _open(self.path(key))
        except OSError as error:
            if error.errno in NO_FILE or is_unreadable(error):
                raise Damaged(f"{self.path(key)}: {error.strerror}") from error
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Damaged(f"{self.path(key)} is not a file")
        return os.fdopen(fd, "rb", buffering=0)

    def identity(self, key: str) -> Identity | None:
        """Of the file of a blob; None where it cannot be read."""
        try:
            return identity_of(self.path(key).lstat())
        except OSError:
            return None

    def doubt(self, key: str) -> Path:
        """The note that bytes of a blob were sent while it was verified again."""
        return self.quarantine / f"{key}{DOUBT}"

    def remove(self, key: str) -> None:
        """See `Store.remove`."""
        path = self.path(key)
        delete(path)
        delete(path.with_suffix(".json"))

    def touch(self, key: str, now: float) -> None:
        """See `Store.touch`."""
        with contextlib.suppress(OSError):
            written = self.path(key).lstat().st_mtime_ns
            os.utime(self.path(key), ns=(int(now * 1e9), written), follow_symlinks=False)

    def describe(self, key: str) -> Facts:
        """See `Store.describe`."""
        return read_sidecar(self._sidecar(key))

    def verified(self, key: str, now: float) -> None:
        """See `Store.verified`."""
        with contextlib.suppress(OSError):
            os.utime(self._sidecar(key), (now, now))

    def quarantine_blob(self, key: str, *, leaked: bool) -> None:
        """See `Store.quarantine_blob`."""
        with contextlib.suppress(FileNotFoundError):  # it went with all that was in it
            self.make_folders()
        if leaked:
            self.mark(key)
        folder = self.path(key).parent
        if os.path.lexists(folder) and not folder.is_dir():
            self.set_aside(folder, key)
        with contextlib.suppress(FileNotFoundError):
            self.set_aside(self.path(key), key)
        delete(self._sidecar(key))

    def _sidecar(self, key: str) -> Path:
        return self.path(key).with_suffix(".json")

    def set_aside(self, file: Path, key: str) -> None:
        """Move wrong bytes to the quarantine, which keeps the newest few."""
        date(file, self._clock.stamp())  # the quarantine goes by it
        file.rename(self.quarantine / f"{key}.{time.time_ns()}")
        self._thin_out(QUARANTINED, lambda file: file.suffix not in NOTES)
        self._thin_out(MARKS, lambda file: file.suffix in NOTES)

    def _thin_out(self, keep: int, kind: Callable[[Path], bool]) -> None:
        found = sorted(
            filter(kind, self.quarantine.iterdir()), key=lambda file: file.lstat().st_mtime
        )
        for old in found[:-keep]:
            delete(old)


def _written(file: Found) -> float:
    return file.stat(follow_symlinks=False).st_mtime


def _open(path: Path) -> int:
    """Open for reading; follows no link, and leaves the access time, which is the last use."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:  # another user's file
        return os.open(path, flags)


def delete(path: Path) -> None:
    """Remove a file, or a folder with all in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def date(file: Path, when: float) -> None:
    """Set when a file was last changed; an error of the disk is ignored."""
    with contextlib.suppress(OSError):
        os.utime(file, (when, when), follow_symlinks=False)


def give_name(data: Path, target: Path, proof: Proof, source: str, validator: Validator) -> None:
    """Make a file whose bytes are synced the blob `target`, with its sidecar. Raises OSError.

    Args:
        data: the file, on the same file system.
        target: the blob's path.
        proof: of the bytes.
        source: the URL.
        validator: of the generation that was fetched; empty where nothing was.
    """
    target.parent.mkdir(exist_ok=True)
    write_sidecar(target, proof, source, validator)
    data.rename(target)
    with contextlib.suppress(OSError):  # the blob is whole; a power cut may take its name, no more
        for folder in (target.parent, target.parent.parent, data.parent):
            sync_folder(folder)


def write_sidecar(target: Path, proof: Proof, source: str, validator: Validator) -> None:
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


def read_sidecar(sidecar: Path) -> Facts:
    """The contents of a sidecar; empty where it cannot be read."""

    def read(text: bytes) -> Facts:
        fields = json.loads(text)
        return Facts(
            size=int(fields["size"]),
            sha256=bytes.fromhex(fields["sha256"]),
            proven_by=str(fields["proven_by"]),
            source=str(fields["source"]),
            signed_by=str(fields.get("signed_by", "")),
            validator=dict(fields.get("validator", {})),
            verified=sidecar.stat().st_mtime,
        )

    return note(sidecar, LIMIT, read) or Facts()


def read_refusal(file: Path) -> Refusal | None:
    """Why a blob must not be served, from its file; None where that cannot be read."""

    def read(text: bytes) -> Refusal:
        fields = json.loads(text)
        return Refusal(str(fields["reason"]), str(fields["terms"]))

    return note(file, LIMIT, read)


def leftover_of(kind: Literal["partial", "quarantine"], file: Path) -> Leftover | None:
    """One file of `partial/` or `quarantine/`; None where it was removed meanwhile."""
    try:
        status = file.lstat()
    except FileNotFoundError:
        return None
    return Leftover(kind, file.stem, file.name, status.st_blocks * 512, status.st_mtime)


def _oldest_first(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda file: file.lstat().st_mtime)


def _read_head(text: bytes) -> Head | None:
    fields = json.loads(text)
    head = Head(int(fields["size"]), bytes.fromhex(fields["sha256"]))
    is_one = head.size > 0 and len(head.sha256) == hashlib.sha256().digest_size
    return head if is_one else None
