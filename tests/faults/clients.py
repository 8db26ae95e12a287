"""Machines that download: raw sockets, each byte held against the right one as it comes."""

import asyncio
from dataclasses import dataclass, field

from omaha_mirror.config import Address
from tests.support.talk import dial, request

TRIES = 20
"""How often update_engine comes back within one transfer (libcurl_http_fetcher.cc:301)."""
PAUSE = 0.05
"""Seconds between tries, where update_engine waits 20."""
METADATA = 1113
"""Bytes that update_engine asks for first when it resumes after a reboot: `bytes=0-1112`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a download ended.

    Attributes:
        word: `ok`, `cut at x %`, `status NNN`, `closed`, `silent`, or what must never be: `WRONG`, `SHORT`.
        held: bytes that the client holds.
        right: whether all of those are the right ones.
    """

    word: str
    held: int = 0
    right: bool = True

    @property
    def broken(self) -> bool:
        """Whether the client takes bad bytes for good ones."""
        return self.word in ("WRONG", "SHORT")


@dataclass(slots=True)
class Part:
    """One answer: `got` bytes of the `announced` ones, which belong at `first`."""

    word: str = "closed"
    status: int = 0
    first: int = 0
    announced: int = 0
    got: int = 0
    right: bool = True
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return self.status in (200, 206) and self.got >= self.announced


@dataclass(frozen=True, slots=True)
class Machine:
    """Downloads one file, of which it knows every byte."""

    address: Address
    path: str
    reference: bytes

    async def whole(self) -> Outcome:
        """All of it, and no second try."""
        return self._verdict(await self._get(0), 0, len(self.reference))

    async def bounded(self, start: int, stop: int) -> Outcome:
        """[start, stop), named from both sides."""
        part = await self._get(start, Range=f"bytes={start}-{stop - 1}")
        return self._verdict(part, start, stop)

    async def tail(self, start: int) -> Outcome:
        """From `start` on: `bytes=N-`, without saying of what."""
        part = await self._get(start, Range=f"bytes={start}-")
        return self._verdict(part, start, len(self.reference))

    async def suffix(self, count: int) -> Outcome:
        """The last `count` bytes."""
        start = len(self.reference) - count
        part = await self._get(start, Range=f"bytes=-{count}")
        return self._verdict(part, start, len(self.reference))

    async def after_reboot(self, start: int) -> Outcome:
        """As update_engine goes on with an update: the metadata, then the rest."""
        metadata = await self.bounded(0, METADATA)
        return metadata if metadata.word != "ok" else await self.tail(start)

    async def resuming(self, *, if_range: bool = False) -> Outcome:
        """Come back after each cut for the rest: bare, as update_engine does, or with If-Range."""
        held, right, etag = 0, True, ""
        for attempt in range(1 + TRIES):
            if attempt:
                await asyncio.sleep(PAUSE)
            headers = {"Range": f"bytes={held}-"} if held else {}
            if held and if_range:
                headers["If-Range"] = etag
            part = await self._get(held, **headers)
            if part.status == 0 and held:
                continue
            if part.status not in (200, 206):
                return Outcome(part.word, held, right)
            if part.status == 200 and if_range:
                held, right = 0, True
            held, right = held + part.got, right and part.right
            etag = part.headers.get("etag", "")
            if part.whole:
                if held < len(self.reference):
                    return Outcome("SHORT", held, right)
                return Outcome("ok" if right else "WRONG", held, right)
            if not held:
                break
        return Outcome(self._cut(held), held, right)

    async def _get(self, first: int, **headers: str) -> Part:
        """One request; the bytes that come are put at `first`, those of a restart at 0."""
        part = Part(first=first)
        async with dial(self.address) as talk:
            await talk.send(request("GET", self.path, headers))
            try:
                if not (data := await talk.some()):
                    return part
                talk.unread(data)
                head = await talk.head()
                part.status, part.headers = head.status, dict(head.headers)
                part.announced = head.length
                if head.status not in (200, 206):
                    part.word = f"status {head.status}"
                    return part
                if head.status == 200 and "If-Range" in headers:
                    part.first = 0
                while part.got < part.announced and (data := await talk.some()):
                    at = part.first + part.got
                    data = data[: part.announced - part.got]
                    part.right &= data == self.reference[at : at + len(data)]
                    part.got += len(data)
            except TimeoutError:
                part.word = "silent"
        return part

    def _verdict(self, part: Part, start: int, stop: int) -> Outcome:
        if part.status != (206 if (start, stop) != (0, len(self.reference)) else 200):
            # Whoever asks for a range takes whatever comes with success for that range.
            word = "WRONG" if part.status in (200, 206) else part.word
            return Outcome(word, 0, True)
        if not part.whole:
            return Outcome(self._cut(start + part.got), part.got, part.right)
        word = "WRONG" if not part.right else "SHORT" if part.got < stop - start else "ok"
        return Outcome(word, part.got, part.right)

    def _cut(self, at: int) -> str:
        return f"cut at {100 * at // len(self.reference)} %"
