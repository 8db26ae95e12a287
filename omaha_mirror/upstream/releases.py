"""The release server's layout: `{base}/{board}/{version}/{name}`, each file with a `.sha256` beside it."""

from dataclasses import dataclass
from urllib.parse import quote

from omaha_mirror.omaha.digest import Digest
from omaha_mirror.omaha.errors import BadDigest
from omaha_mirror.upstream.errors import (
    BadAnswer,
    BadStatus,
    Changed,
    Forbidden,
    Gone,
    TooLarge,
)
from omaha_mirror.upstream.fetcher import Fetcher

SIDECAR_LIMIT = 4096
DEADLINE = 30.0
# Answers to HEAD after which a GET may still be welcome; file servers say 403 of a file that is not there too.
_REFUSED = (403, 405, 501)


@dataclass(frozen=True, slots=True)
class RemotePackage:
    """A file on the release server.

    Attributes:
        name: File name, without a folder.
        url: Absolute address.
        size: In bytes, as the server announces it.
        sha256: From the sidecar; None where the server has none.
    """

    name: str
    url: str
    size: int
    sha256: Digest | None


class ReleaseServer:
    """Asks a release server what it has; it fetches no package itself."""

    def __init__(self, fetcher: Fetcher, base_url: str) -> None:
        self._fetcher = fetcher
        self._base_url = base_url.rstrip("/")

    def url(self, board: str, version: str, name: str) -> str:
        """The address of a release's file.

        Raises:
            Forbidden: One of the three is not a plain path segment.
        """
        segments = (board, version, name)
        url = "/".join((self._base_url, *(quote(segment, safe="+") for segment in segments)))
        if any(segment in ("", ".", "..") or "/" in segment for segment in segments):
            raise Forbidden("board, version and file name must be plain names", url)
        return url

    async def digest(self, url: str) -> Digest | None:
        """SHA-256 from a file's sidecar, `HEX  name`; None if the server has no sidecar.

        Raises:
            UpstreamError: It could not be had, or is no sidecar (`BadAnswer`).
        """
        sidecar_url = f"{url}.sha256"
        try:
            sidecar = await self._fetcher.small(sidecar_url, limit=SIDECAR_LIMIT, deadline=DEADLINE)
        except Gone:
            return None
        fields = sidecar.decode("ascii", "replace").split()
        try:
            return Digest.from_hex(fields[0], algorithm="sha256")
        except (IndexError, BadDigest) as error:
            raise BadAnswer(
                "the .sha256 file does not begin with a SHA-256 in hex", sidecar_url
            ) from error

    async def size(self, url: str) -> int:
        """Size of a file in bytes, from HEAD, or where that does not tell from its first byte's answer.

        Raises:
            UpstreamError: It could not be had; `Gone` if there is no such file.
        """
        try:
            size = (await self._fetcher.head(url, deadline=DEADLINE)).size
        except BadStatus as error:
            if error.status not in _REFUSED:
                raise
            size = None
        if size is None:
            async with self._fetcher.stream(url, start=0, stop=1) as body:
                size = body.size
        if size == 0:
            raise BadAnswer("the file is empty", url)
        return size

    async def describe(self, board: str, version: str, name: str) -> RemotePackage:
        """All that the server says about a file without sending it.

        Raises:
            UpstreamError: It could not be had; `Gone` if there is no such file.
        """
        url = self.url(board, version, name)
        return RemotePackage(name, url, await self.size(url), await self.digest(url))

    async def confirm(self, url: str, size: int, sha256: Digest | None) -> None:
        """Check what a manifest says of a file, wherever that lies, against what its server says.

        A sidecar may be missing, or be a page for people: here it is not needed, as the manifest has the digest.

        Raises:
            Changed: They differ.
            UpstreamError: The server could not be asked; `Gone` if there is no such file.
        """
        found = await self.size(url)
        if found != size:
            raise Changed(f"the server has {found} bytes, the manifest says {size}", url)
        try:
            sidecar = await self.digest(url)
        except BadStatus as error:
            if error.status not in _REFUSED:
                raise
        except (BadAnswer, Forbidden, TooLarge):
            return
        else:
            if sidecar is not None and sha256 is not None and sidecar != sha256:
                raise Changed(
                    f"the server's sidecar says SHA-256 {sidecar.hex}, the manifest {sha256.hex}",
                    url,
                )
