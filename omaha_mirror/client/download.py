"""Downloading a package as the machines do, and proving it before it gets its name."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiofiles
import aiohttp
from aiofiles.threadpool.binary import AsyncFileIO

from omaha_mirror.aio.tasks import finish, in_worker
from omaha_mirror.cache.write_behind import WriteBehind
from omaha_mirror.client.connections import ConnectionFailed, exchange, read
from omaha_mirror.omaha import Digest, ErrorCode
from omaha_mirror.state_file import sync, sync_folder

TRIES = 20
"""How often a download that was cut is taken up again (update_engine/libcurl_http_fetcher.cc:301, ue-rs src/util.rs)."""
PENDING = 4 * 1024 * 1024
"""Bytes that may wait for the disk: a connection that breaks loses the bytes that were not read yet."""
PAUSE = 1.0
"""Seconds before that; update_engine waits 20, ue-rs one."""


class UpdateFailed(Exception):
    """A machine's update fails; the message is for people.

    Attributes:
        errorcode: what update_engine reports.
    """

    def __init__(self, message: str, errorcode: int) -> None:
        super().__init__(message)
        self.errorcode = errorcode


class WrongBytes(UpdateFailed):
    """A package does not have its size or its digests."""


class Unreachable(UpdateFailed):
    """The server does not answer."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A package that is downloaded and verified.

    Attributes:
        name: from the manifest.
        path: of the file.
        size: in bytes.
        seconds: from the first request to the rename.
        requests: how many GET requests it took.
        cache_status: the Cache-Status field of the first answer (RFC 9211), or "".
    """

    name: str
    path: Path
    size: int
    seconds: float
    requests: int
    cache_status: str


class Watch:
    """Gets each event of the downloads of one machine, one download at a time; this one ignores them."""

    def began(self, name: str, size: int, cache_status: str) -> None:
        """The head of the first response arrived."""

    def received(self, count: int) -> None:
        """So many bytes of the package arrived so far."""

    def trouble(self, line: str) -> None:
        """Something failed and is tried again."""

    def ended(self, downloaded: Downloaded) -> None:
        """The package is downloaded and verified."""


@dataclass(frozen=True, slots=True)
class DownloadRequest:
    """A package to download.

    Attributes:
        name: a plain file name.
        url: where from.
        size: in bytes.
        digests: all that are known of it.
        resumable: whether a cut download goes on with a Range, as at update_engine, or begins again, as at ue-rs.
    """

    name: str
    url: str
    size: int
    digests: tuple[Digest, ...]
    resumable: bool


@dataclass(frozen=True, slots=True)
class _Cut:
    """An answer that ended early.

    Attributes:
        why: for people.
        headed: whether its head arrived.
        measured: whether the head gave a length.
    """

    why: str
    headed: bool = False
    measured: bool = False


async def download(
    session: aiohttp.ClientSession,
    wanted: DownloadRequest,
    directory: Path,
    watch: Watch,
    pause: float,
) -> Downloaded:
    """Download a package to `directory`; it is there under its name only if all of it is right.

    Args:
        session: see `connections`.
        wanted: the package.
        directory: exists.
        watch: gets the events.
        pause: seconds before a download that was cut goes on.

    Raises:
        UpdateFailed: where the machine would fail.
    """
    began = time.monotonic()
    async with _part_file(directory / wanted.name, wanted) as part:
        for tries in range(TRIES + 1):
            cut = await _get(session, wanted, part, watch)
            if cut is None:
                break
            _check_cut(wanted, cut, part.size, tries)
            watch.trouble(
                f"{wanted.name} was cut at byte {part.size} of {wanted.size}: {cut.why};"
                f" try {tries + 1} of {TRIES} in {pause:g} s"
            )
            await asyncio.sleep(pause)
        await part.commit()
    seconds = time.monotonic() - began
    return Downloaded(
        wanted.name, part.path, wanted.size, seconds, tries + 1, part.cache_status or ""
    )


async def _get(
    session: aiohttp.ClientSession, wanted: DownloadRequest, part: _PartFile, watch: Watch
) -> _Cut | None:
    """Get the package, or what is lacking of it; None when it is all there. Raises UpdateFailed."""
    if not wanted.resumable:
        await part.restart()
    headers = {"Range": f"bytes={part.size}-"} if part.size else {}
    headed = measured = False
    try:
        async with exchange(session, "GET", wanted.url, headers=headers) as response:
            _check_head(wanted, response.status, response.headers, part.size)
            headed, measured = True, response.content_length is not None
            if part.cache_status is None:
                part.cache_status = response.headers.get("Cache-Status", "")
                watch.began(wanted.name, wanted.size, part.cache_status)
            behind = WriteBehind(part.write, PENDING)
            try:
                while chunk := await read(response):
                    await behind.put(chunk)
                    watch.received(part.size + behind.pending)
            finally:
                await behind.close()
    except ConnectionFailed as error:
        return _Cut(str(error), headed, measured)
    if part.size < wanted.size:
        return _Cut("the answer ended early", headed, measured)
    return None


def _check_head(
    wanted: DownloadRequest, status: int, headers: Mapping[str, str], offset: int
) -> None:
    """Refuse an answer that the machine could not use."""
    if not 200 <= status < 300:
        raise UpdateFailed(
            f"{wanted.url} was answered HTTP {status}", ErrorCode.DOWNLOAD_TRANSFER_ERROR
        )
    coding = headers.get("Content-Encoding", "identity").lower()
    if coding != "identity":
        raise UpdateFailed(
            f"{wanted.url} came with Content-Encoding {coding!r}, which the machine did not ask for"
            " and would take for the package itself",
            ErrorCode.DOWNLOAD_INVALID_METADATA_MAGIC_STRING,
        )
    placed = headers.get("Content-Range", "").startswith(f"bytes {offset}-")
    if offset and not (status == 206 and placed):
        raise UpdateFailed(
            f"{wanted.url} was asked for the bytes from {offset} and answered HTTP {status} with"
            " others: update_engine would append them",
            ErrorCode.DOWNLOAD_OPERATION_HASH_MISMATCH,
        )
    length = headers.get("Content-Length")
    if length is not None and length != str(wanted.size - offset):
        raise _wrong_size(
            f"{wanted.url} announces {length} bytes from byte {offset} on, but the package has {wanted.size}"
        )


def _check_cut(wanted: DownloadRequest, cut: _Cut, size: int, tries: int) -> None:
    """Decide whether a download that was cut may go on. Raises UpdateFailed where it may not.

    update_engine goes on only when it has some bytes and knows the length; without, it takes what it has for all there
    is (libcurl_http_fetcher.cc:270-330). ue-rs begins again, whatever happened (src/util.rs).
    """
    cut_at = f"{wanted.url} was cut at byte {size} of {wanted.size}: {cut.why}"
    if wanted.resumable and not cut.headed and size == 0:
        raise Unreachable(
            f"{wanted.url} cannot be downloaded: {cut.why}; update_engine would try at its next check",
            ErrorCode.DOWNLOAD_TRANSFER_ERROR,
        )
    if wanted.resumable and cut.headed and not (cut.measured and size):
        raise UpdateFailed(
            f"{cut_at}; update_engine would take that for the whole package",
            ErrorCode.PAYLOAD_SIZE_MISMATCH_ERROR,
        )
    if tries == TRIES:
        raise UpdateFailed(f"{cut_at}, after {TRIES} tries", ErrorCode.DOWNLOAD_TRANSFER_ERROR)


def _wrong_size(message: str) -> WrongBytes:
    return WrongBytes(message, ErrorCode.PAYLOAD_SIZE_MISMATCH_ERROR)


class _PartFile:
    """What is here of a package, with its digests so far: `NAME.part`, until it becomes `NAME`."""

    def __init__(self, path: Path, wanted: DownloadRequest, file: AsyncFileIO) -> None:
        self.path = path
        self.cache_status: str | None = None
        self.size = 0
        self._wanted = wanted
        self._file = file
        self._hashers = self._new_hashers()

    def _new_hashers(self) -> list[tuple[Digest, hashlib._Hash]]:
        return [
            (digest, hashlib.new(digest.algorithm, usedforsecurity=False))
            for digest in self._wanted.digests
        ]

    async def restart(self) -> None:
        """Forget what is here. Raises UpdateFailed."""
        self.size = 0
        self._hashers = self._new_hashers()
        with _disk_errors(self.path):
            await self._file.seek(0)
            await self._file.truncate()

    async def write(self, chunks: list[bytes]) -> None:
        """Add bytes. Raises UpdateFailed."""
        chunk = b"".join(chunks)
        if self.size + len(chunk) > self._wanted.size:
            raise _wrong_size(
                f"{self._wanted.url} sends more than the {self._wanted.size} bytes it should have"
            )
        with _disk_errors(self.path):
            view = memoryview(chunk)
            while view:
                view = view[await self._file.write(view) :]
        for _, hasher in self._hashers:
            hasher.update(chunk)
        self.size += len(chunk)

    async def commit(self) -> None:
        """Verify the digests, and rename the file. Raises UpdateFailed."""
        for digest, hasher in self._hashers:
            if hasher.digest() != digest.raw:
                raise WrongBytes(
                    f"{self._wanted.url} has the wrong bytes: their {digest.algorithm} is"
                    f" {hasher.hexdigest()}, not {digest.hex}; they were not kept",
                    ErrorCode.PAYLOAD_HASH_MISMATCH_ERROR,
                )
        await in_worker(self._give_name)

    def _give_name(self) -> None:
        with _disk_errors(self.path):
            sync(self._file.fileno())
            _temporary(self.path).rename(self.path)
            sync_folder(self.path.parent)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


@asynccontextmanager
async def _part_file(path: Path, wanted: DownloadRequest) -> AsyncIterator[_PartFile]:
    """A file that is gone at the end unless it got its name. Raises UpdateFailed."""
    temporary = _temporary(path)
    with _disk_errors(temporary):
        file = await aiofiles.open(temporary, "wb", buffering=0)
    try:
        yield _PartFile(path, wanted, file)
    finally:
        await finish(file.close())
        temporary.unlink(missing_ok=True)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UpdateFailed(
            f"cannot write {path}: {error.strerror}", ErrorCode.DOWNLOAD_WRITE_ERROR
        ) from error
