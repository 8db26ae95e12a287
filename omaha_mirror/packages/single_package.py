"""One package on disk, offered to every machine with an older version."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

from omaha_mirror.aio.tasks import in_worker
from omaha_mirror.cache import Reader
from omaha_mirror.cache.errors import CacheError
from omaha_mirror.cache.open_blob import ProvenBlob
from omaha_mirror.cache.prover import Read
from omaha_mirror.catalog import LookupResult, PackageFile, Pin, Release, Step
from omaha_mirror.catalog.model import needed_packages
from omaha_mirror.omaha import (
    Action,
    AppRequest,
    Digest,
    Manifest,
    Package,
    Request,
    UpdateCheck,
    UpdateStatus,
    Url,
)
from omaha_mirror.packages.payload_prover import PayloadProvers
from omaha_mirror.policy.decide import Decision, decide

NAME = "update.gz"
"""What the package is called in the answers, whatever the file is called."""
STEP = 1024 * 1024


class SinglePackage:
    """Answers for any application, board and track; decisions and packages in one, as the public listener needs them.

    Making one reads the whole file. It stays open: when another file takes its name, this one is served on as it was
    hashed; when it is changed in place, it is refused from then on.

    Args:
        path: of the package.
        version: that it updates to, one that `omaha.Version` can read.

    Raises:
        OSError: it cannot be read, is no file, is empty, or is being written.
    """

    def __init__(self, path: Path, version: str) -> None:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(f"{path} is not a file")
        self._blob = _HashedFile(path)
        self.release = _release(path, self._blob, version)

    def close(self) -> None:
        """Close the file."""
        self._blob.close()

    async def decide(self, request: Request, app: AppRequest, client: str = "") -> Decision:  # noqa: ARG002 (the port's)
        """See `at_once`."""
        return self.at_once(app)

    def at_once(self, app: AppRequest, client: str = "") -> Decision:  # noqa: ARG002 (the port's)
        """Offer the package to a machine, unless its own version is as new, or cannot be read."""
        rule = Pin(self.release.version)
        known = LookupResult(self.release, looked_up=needed_packages(rule, app.oem))
        step = Step(rule.version, known)
        return decide(app, rule, [step], now=0.0, app_ids=(app.app_id,), boards=(app.board,))

    def package(self, release: str, name: str) -> PackageFile | None:
        """The package by the path that the offer named."""
        return self.release.file(name) if release == self.release.id else None

    async def layout_file(
        self,
        board: str,  # noqa: ARG002 (the port's)
        version: str,  # noqa: ARG002
        name: str,  # noqa: ARG002
        client: str = "",  # noqa: ARG002
    ) -> PackageFile | None:
        """There is no release server here."""
        return None

    def changed_recently(self, board: str, version: str, name: str) -> bool:  # noqa: ARG002 (the port's)
        """There is no release server here."""
        return False

    def read(
        self,
        file: PackageFile,  # noqa: ARG002 (the port's)
        start: int,
        stop: int,
        client: str = "",  # noqa: ARG002 (the port's)
    ) -> Reader:
        """Read [start, stop) of the package. Raises CacheError when it was changed."""
        return Reader(lambda _: (self._blob, "hit"), start, stop, self._measure)

    async def _measure(self, read: Read) -> int:
        return await in_worker(PayloadProvers().head_size, self._blob.size, read)

    def forward_reports(
        self, request: Request, app: AppRequest, decision: Decision | None = None
    ) -> None:
        """There is no server to forward them to."""


class _HashedFile(ProvenBlob):
    """A file as it was when it was hashed, asked before each window whether it still is."""

    def __init__(self, path: Path) -> None:
        file = path.open("rb", buffering=0)
        try:
            self._state = _state(file)
            super().__init__(file)
            self.sha1, self.sha256 = _digests(file)
            if not self.size:
                raise OSError(f"{path} is empty")
            if _state(file) != self._state:
                raise OSError(f"{path} is being written: try again when it is whole")
        except BaseException:
            file.close()
            raise
        self._path = path

    def edge(self, reader: Reader) -> int:
        """The end: everything may leave. Raises CacheError."""
        if _state(self.file) != self._state:
            raise CacheError(f"{self._path} was changed since it was hashed: restart serve-package")
        return super().edge(reader)


def _state(file: BinaryIO) -> tuple[int, int]:
    """Size in bytes and time of the last change in nanoseconds."""
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _digests(file: BinaryIO) -> tuple[Digest, Digest]:
    """SHA-1 and SHA-256 of a whole file."""
    sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
    while chunk := file.read(STEP):
        sha1.update(chunk)
        sha256.update(chunk)
    return Digest("sha1", sha1.digest()), Digest("sha256", sha256.digest())


def _release(path: Path, file: _HashedFile, version: str) -> Release:
    package = Package(
        name=NAME, hash=file.sha1, hash_sha256=file.sha256, size=file.size, required=True
    )
    postinstall = Action(event="postinstall", sha256=file.sha256, disable_payload_backoff=True)
    manifest = Manifest(version=version, packages=(package,), actions=(postinstall,))
    url = path.absolute().as_uri()
    return Release(
        app_id="any",
        board="any",
        version=version,
        check=UpdateCheck(
            status=UpdateStatus.OK,
            urls=(Url(codebase=url.rpartition("/")[0] + "/"),),
            manifests=(manifest,),
        ),
        urls={NAME: url},
    )
