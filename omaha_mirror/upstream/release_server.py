"""The release server's layout: `{base}/{board}/{version}/{name}`, each file with a `.sha256` beside it."""

from dataclasses import dataclass
from urllib.parse import quote

from omaha_mirror.omaha.errors import BadDigest
from omaha_mirror.omaha.values import Digest
from omaha_mirror.upstream.errors import (
    BadAnswer,
    Changed,
    Forbidden,
    Gone,
    Unreachable,
    UpstreamError,
)
from omaha_mirror.upstream.fetcher import Fetcher

SIDECAR_LIMIT = 4096
DEADLINE = 30.0


@dataclass(frozen=True, slots=True)
class RemotePackage:
    """A file on the release server.

    Attributes:
        name: File name, without a folder.
        url: Absolute address.
        size: In bytes, as the server announces it; None where it does not.
        sha256: From the sidecar; None where the server has none.
    """

    name: str
    url: str
    size: int | None
    sha256: Digest | None


class ReleaseServer:
    """Requests sizes and digests from a release server; it downloads no package."""

    def __init__(self, fetcher: Fetcher, base_url: str | None) -> None:
        self._fetcher = fetcher
        self._base_url = base_url and base_url.rstrip("/")

    def url(self, board: str, version: str, name: str) -> str:
        """The address of a release's file.

        Raises:
            Forbidden: One of the three is not a plain path segment.
            Gone: There is no release server.
        """
        segments = (board, version, name)
        if self._base_url is None:
            raise Gone(
                "upstream.release_url is null, and no manifest names the file", "/".join(segments)
            )
        url = "/".join((self._base_url, *(quote(segment, safe="+") for segment in segments)))
        if any(segment in ("", ".", "..") or "/" in segment for segment in segments):
            raise Forbidden("board, version and file name must be plain names", url)
        return url

    async def digest(self, url: str) -> Digest | None:
        """SHA-256 from a file's sidecar, `HEX  name`; None if the server has no sidecar.

        Raises:
            UpstreamError: The request failed, or the file is no sidecar (`BadAnswer`).
        """
        sidecar_url = f"{url}.sha256"
        try:
            sidecar = await self._fetcher.small(
                sidecar_url, limit=SIDECAR_LIMIT, deadline=DEADLINE, judged=True
            )
        except Gone:
            return None
        fields = sidecar.decode("ascii", "replace").split()
        try:
            return Digest.from_hex(fields[0], algorithm="sha256")
        except (IndexError, BadDigest) as error:
            raise BadAnswer(
                "the .sha256 file does not begin with a SHA-256 in hex", sidecar_url
            ) from error

    async def size(self, url: str, expected: int | None = None) -> int | None:
        """Size of a file in bytes; None if no response has it.

        Asks with HEAD, then with a GET of the first byte. Machines send neither, and some servers answer them wrongly: a
        size that they do not confirm is read from the head of a plain GET.

        Args:
            url: Of the file.
            expected: The manifest's size.

        Raises:
            UpstreamError: The GET fails too; `Gone` if there is no such file.
        """
        missing = 0
        for ask in (self._size_by_head, self._size_by_first_byte):
            try:
                size = await ask(url)
            except Unreachable:
                raise
            except Gone:
                missing += 1
                if missing > 1:
                    raise
            except UpstreamError:
                continue
            else:
                if size and expected in (None, size):
                    return size
        size = await self._fetcher.declared_size(url, first_byte=False, deadline=DEADLINE)
        if size == 0:
            raise BadAnswer("the file is empty", url)
        return size

    async def _size_by_head(self, url: str) -> int | None:
        return (await self._fetcher.head(url, deadline=DEADLINE)).size

    async def _size_by_first_byte(self, url: str) -> int | None:
        return await self._fetcher.declared_size(url, first_byte=True, deadline=DEADLINE)

    async def describe(self, board: str, version: str, name: str) -> RemotePackage:
        """URL, size and digest of a file, without a download.

        Raises:
            UpstreamError: A request failed; `Gone` if there is no such file.
        """
        url = self.url(board, version, name)
        return RemotePackage(name, url, await self.size(url), await self.digest(url))

    async def confirm(self, url: str, size: int, sha256: Digest | None) -> None:
        """Compare the manifest's size and digest of a file on any server with the server's.

        Missing values are no contradiction: the manifest has them, and the digest is verified later. A sidecar may be
        missing, be an HTML page, or be refused.

        Raises:
            Changed: They differ.
            UpstreamError: A request failed; `Gone` if there is no such file.
        """
        found = await self.size(url, size)
        if found not in (None, size):
            raise Changed(f"the server has {found} bytes, the manifest {size}", url)
        try:
            sidecar = await self.digest(url)
        except UpstreamError:
            return
        if sidecar is not None and sha256 is not None and sidecar != sha256:
            raise Changed(
                f"the server's sidecar has the SHA-256 {sidecar.hex}, the manifest {sha256.hex}",
                url,
            )
