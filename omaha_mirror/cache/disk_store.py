"""The default store: blobs in a directory. `blob_directory` describes its files, and the effects of a crash."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from omaha_mirror.cache.blob import Expected
from omaha_mirror.cache.blob_directory import NOTES, BlobDirectory, date, delete, leftover_of
from omaha_mirror.cache.draft import DiskDraft, IncomingFile
from omaha_mirror.cache.recheck_draft import RecheckDraft
from omaha_mirror.cache.store import Leftover, Stored
from omaha_mirror.state_file import sync_folder


class DiskStore(BlobDirectory):
    """Blobs in a directory. One process at a time. `load` comes first; it alone sweeps leftovers of a crash."""

    def load(self, *, signed: bool = True) -> list[Stored]:
        """See `Store.load`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.make_folders()
        with contextlib.suppress(OSError):  # a power cut may take them, no more
            sync_folder(self.directory)
        for file in self.arriving.iterdir():
            delete(file)
        for file in list(self.partial.iterdir()):
            other = file.with_suffix(".data" if file.suffix == ".json" else ".json")
            is_ours = file.suffix in {".data", ".json"}
            if not (_is_file(file) and _is_file(other) if is_ours else file.is_dir()):
                delete(file)
        for folder, found in self.folders():
            for name in found:
                orphan = name.endswith(".json") and name.removesuffix(".json") not in found
                if orphan or name.endswith(".tmp"):
                    delete(folder / name)
        return list(self.stored(signed=signed))

    def draft(self, expected: Expected) -> DiskDraft:
        """See `Store.draft`."""
        self.make_folders()
        return DiskDraft(self, expected)

    def incoming(self, expected: Expected) -> IncomingFile:
        """See `Store.incoming`."""
        self.make_folders()
        return IncomingFile(self.arriving / expected.key, self.path(expected.key), expected.source)

    def recheck(self, expected: Expected) -> RecheckDraft:
        """See `Store.recheck`."""
        return RecheckDraft(self, expected, self._clock)

    def begun(self, key: str) -> int:
        """See `Store.begun`."""
        try:
            return (self.partial / f"{key}.data").stat().st_blocks * 512
        except FileNotFoundError:
            return 0

    def files(self) -> int | None:
        """See `Store.files`."""
        status = os.statvfs(self.directory)
        return status.f_favail if status.f_files else None

    def free(self) -> int:
        """See `Store.free`."""
        status = os.statvfs(self.directory)
        return status.f_bavail * status.f_frsize

    def leftovers(self) -> list[Leftover]:
        """See `Store.leftovers`."""
        growing = (leftover_of("partial", file) for file in self.partial.glob("*.data"))
        aside = (
            leftover_of("quarantine", file)
            for file in self.quarantine.iterdir()
            if file.suffix not in NOTES
        )
        return [found for found in (*growing, *aside) if found is not None]

    def discard(self, leftover: Leftover) -> None:
        """See `Store.discard`."""
        folder = self.partial if leftover.kind == "partial" else self.quarantine
        (folder / leftover.name).with_suffix(".json").unlink(missing_ok=True)
        delete(folder / leftover.name)

    def redate(self, leftover: Leftover, now: float) -> None:
        """See `Store.redate`."""
        folder = self.partial if leftover.kind == "partial" else self.quarantine
        date(folder / leftover.name, now)


def _is_file(path: Path) -> bool:
    """Whether it is a file, and nothing that a link leads to."""
    return path.is_file() and not path.is_symlink()
