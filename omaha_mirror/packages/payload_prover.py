"""Where payloads meet the cache: an update package is proven operation by operation, and by its signature.

* The bytes of an operation leave when its digest is right, all together. A range that begins within one has it fetched
  from its start, and one that ends within one waits for its end.
* An operation that is too large to wait for is released as it comes, short of the held-back end, and taken back where
  it turns out wrong. Small packages are often one operation: what proves them before their end is nothing.
* Header and manifest have no digest of their own. They are released as soon as they can be read, and fetched once more
  where they look like those of a payload and cannot. Where the payload was proven before, they are known: held against
  that first, and fetched once more where they are others; where these are others too, nothing but the whole proves it. The signatures are not released before the whole is right; where
  it is not, though each operation is, it is they that are fetched once more.
* The last byte is never released. So no client completes a package whose manifest is right in itself and not the expected
  one.
* A file that is no payload is released as it comes, short of the held-back end.
* A range that ends before the end of the file is completed by its client, whatever the whole turns out to be, and a
  client that resumes does not hash the metadata again (update_engine/payload_processor.cc:484). So such a range gets no
  byte of header, manifest, signatures, or a file that is no payload, before the whole is proven or they are known.
* With keys, a package must be signed by one of them as update_engine demands, and be a full one: Flatcar's machines say
  that deltas are not for them (update_engine/omaha_request_params.cc:65). One that upstream gives to a machine by name
  is for upstream and that machine to settle: it need only be signed.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from omaha_mirror.cache import Expected
from omaha_mirror.cache.blob import Head
from omaha_mirror.cache.errors import Untrusted
from omaha_mirror.cache.intervals import NOTHING, Intervals
from omaha_mirror.cache.prover import HoldBack, Prover, Read, Ruling, Span
from omaha_mirror.payload import (
    Key,
    Manifest,
    MetadataDigest,
    OperationDigests,
    PayloadError,
    Signed,
    SignedPrefix,
    Verdicts,
    read_key,
)
from omaha_mirror.payload.header import HEADER_SIZE, MAGIC, exactly
from omaha_mirror.payload.signature import CLIENT_VERSION

LARGE = 2 * 1024 * 1024
"""Bytes of an operation that is too large to wait for."""
SHARE = 4
"""Where a package passes through memory, what is larger than this part of it is too large as well."""
HEAD = 256 * 1024
"""Bytes that are fetched once more where header or manifest cannot be read."""

Keys = Callable[[], Sequence[Key]]
"""Gives the keys that count now; none where no signature is required."""


def keys_in(files: Mapping[str, bytes]) -> tuple[Key, ...]:
    """The public keys in PEM files, given as what is in each by its path. Raises BadKey."""
    return tuple(read_key(pem, path) for path, pem in files.items())


def _never(_: str) -> bool:
    return False


class PayloadProvers:
    """Makes the provers of packages.

    Args:
        keys: that count now; others may take their place, as an attribute, while the mirror runs.
        delta: whether upstream offered a blob, by its key, to one machine as a delta.
    """

    def __init__(self, keys: Sequence[Key] = (), delta: Callable[[str], bool] = _never) -> None:
        self.keys = keys
        self._delta = delta

    @property
    def terms(self) -> str:
        """The ids of the keys."""
        return _terms(self.keys)

    def head_size(self, size: int, read: Read) -> int:
        """See `Provers`."""
        return _measured(size, read).size or 0

    def head(self, size: int, read: Read) -> Head | None:
        """See `Provers`."""
        metadata = _measured(size, read)
        for at in range(HEADER_SIZE, metadata.size or 0, LARGE):
            metadata.take(exactly(read, at, min(LARGE, (metadata.size or 0) - at)))
        return _head(metadata)

    def accepts(self, signed_by: str) -> bool:
        """Whether that is one of the keys, or there is none."""
        return not self.keys or signed_by in {key.id for key in self.keys}

    def __call__(self, expected: Expected, hold_back: int, head: Head | None = None) -> Prover:
        """See `Provers`."""
        delta = self._delta(expected.key)
        return PayloadProver(expected.size, hold_back, lambda: self.keys, head, takes_delta=delta)


class PayloadProver:
    """Judges the fill of one package.

    Args:
        size: in bytes.
        hold_back: bytes at the end that wait for the whole, where no operation is there to prove them.
        keys: those that count.
        head: its metadata, where they are known.
        takes_delta: whether it may be a delta.
    """

    def __init__(
        self,
        size: int,
        hold_back: int,
        keys: Keys,
        head: Head | None = None,
        *,
        takes_delta: bool = False,
    ) -> None:
        self._size = size
        self._takes_delta = takes_delta
        self._known = head
        self._is_known_right = False
        self._metadata = MetadataDigest(size)
        self._plain = HoldBack(size, hold_back)
        self._keys = keys
        self._operations = OperationDigests(size)
        self._is_plain = False
        self._layout: _Layout | None = None
        self._good = Intervals()
        self._prefix = SignedPrefix(size) if keys() else None
        self._defect: PayloadError | None = None
        self._taken = 0
        self._head_again = self._tail_again = False

    def examine(
        self, filled: Intervals, read: Read, capacity: int | None, awaited: Sequence[int] = ()
    ) -> Ruling:
        """See `Prover`."""
        if self._is_plain:
            return self._plainly(filled, read, capacity)
        if (early := self._held_against_known(filled, read, capacity)) is not None:
            return early
        found = self._operations.examine(filled, read, awaited=awaited)
        if self._operations.manifest is not None:
            self._layout = self._layout or _Layout(self._operations.manifest)
            self._good = Intervals((*self._good, *found.good))
            return self._ruling(self._layout, found, filled, capacity)
        ready = filled.run_end(0)
        if self._operations.refusal is None:
            self._is_plain = capacity is not None and ready > capacity // SHARE
            return Ruling(NOTHING, NOTHING, NOTHING, more=self._is_plain)
        if not self._head_again and _resembles_a_payload(read(0, len(MAGIC))):
            self._head_again = True
            return Ruling(NOTHING, NOTHING, NOTHING, wrong=((0, min(ready, HEAD)),))
        self._is_plain = True
        return self._plainly(filled, read, capacity)

    def _plainly(self, filled: Intervals, read: Read, capacity: int | None) -> Ruling:
        """Of a file that is no payload no byte is proven before the whole."""
        return replace(self._plain.examine(filled, read, capacity), covered=NOTHING)

    def _held_against_known(
        self, filled: Intervals, read: Read, capacity: int | None
    ) -> Ruling | None:
        """Hold all back until the metadata are here and are those of the earlier proof; None: they are, or there are none."""
        known = self._known
        if known is None or self._is_known_right:
            return None
        if capacity is not None and known.size > capacity // SHARE:
            self._known = None
            return None
        if filled.run_end(0) < known.size:
            return Ruling(NOTHING, NOTHING, NOTHING)
        if hashlib.sha256(exactly(read, 0, known.size)).digest() == known.sha256:
            self._is_known_right = True
            return None
        if self._head_again:
            # Twice: it may be the note that is wrong, and the whole will tell. Until then this manifest proves nothing.
            self._is_plain = True
            return self._plainly(filled, read, capacity)
        self._head_again = True
        return Ruling(NOTHING, NOTHING, NOTHING, wrong=((0, known.size),))

    def _ruling(
        self, layout: _Layout, found: Verdicts, filled: Intervals, capacity: int | None
    ) -> Ruling:
        limit = LARGE if capacity is None else min(LARGE, capacity // SHARE)
        growing = [
            part
            for start, stop in layout.larger(limit)
            if start not in self._good and (start, stop) not in found.wrong
            for part in filled.clip(start, stop)
        ]
        head = filled.clip(0, layout.head)
        early = Intervals(growing).clip(0, self._plain.edge)
        completable = Intervals((*head, *self._good, *filled.clip(layout.tail, self._size)))
        hashable = Intervals((*completable, *growing))
        return Ruling(
            released=Intervals((*head, *self._good, *early)).clip(0, self._size - 1),
            completable=completable if capacity is None else hashable,
            hashable=hashable,
            judged=Intervals((*(head if self._is_known_right else ()), *self._good)).clip(
                0, self._size - 1
            ),
            wrong=found.wrong,
            more=found.more,
            covered=Intervals([(0 if self._is_known_right else layout.head, layout.tail)]),
            proven=Intervals((*head, *self._good)) if self._is_known_right else NOTHING,
        )

    def needs(self, start: int, stop: int) -> Iterable[Span]:
        """Whole operations; until it is known where they are, the first bytes and nothing else."""
        if self._is_plain:
            return ((start, stop),)
        if self._layout is None:
            return ((0, self._size),)
        return (self._layout.whole(start, stop),)

    def dropped(self, start: int, stop: int) -> None:
        """See `Prover`."""
        if start == 0:
            self._operations = OperationDigests(self._size)
            self._is_known_right = False
        elif self._layout is not None and start < self._layout.tail:
            self._operations.again((start, stop))
        if start < self._taken:
            self._prefix = SignedPrefix(self._size) if self._prefix is not None else None
            self._metadata = MetadataDigest(self._size)
            self._defect, self._taken = None, 0

    def take(self, data: bytes) -> None:
        """See `Prover`."""
        self._taken += len(data)
        self._metadata.take(data)
        if self._prefix is not None and self._defect is None:
            try:
                self._prefix.update(data)
            except PayloadError as error:
                self._defect = error

    def head(self) -> Head | None:
        """The metadata."""
        return _head(self._metadata)

    def suspects(self) -> tuple[Span, ...]:
        """The signatures, once."""
        if self._tail_again or self._layout is None or self._layout.tail == self._size:
            return ()
        self._tail_again = True
        return ((self._layout.tail, self._size),)

    def conclude(self, read: Read | None) -> str:
        """The id of the key that signed it for update_engine; "" where no key is given.

        Where the keys came after the first byte, it is read once more; what passes through memory is not there any more.

        Raises:
            Untrusted: update_engine or these machines would not take it.
            OSError: reading failed.
        """
        keys = self._keys()
        if keys and self._prefix is None and read is not None:
            self._prefix = SignedPrefix(self._size)
            for at in range(0, self._size, LARGE):
                self.take(exactly(read, at, min(LARGE, self._size - at)))
        if not keys or self._prefix is None:
            return ""
        try:
            if self._defect is not None:
                raise self._defect
            signed = self._prefix.judge(keys)
        except PayloadError as error:
            raise Untrusted(f"no payload that machines take: {error}", _terms(keys)) from error
        manifest = self._prefix.manifest
        if manifest is not None and manifest.is_delta and not self._takes_delta:
            raise Untrusted("a delta payload, and these machines take none", _terms(keys))
        if not signed.valid_for_update_engine:
            raise Untrusted(_unsigned(signed), _terms(keys))
        return next(s.key.id for s in signed.signatures if s.version == CLIENT_VERSION and s.key)


class _Layout:
    """Where the operations are that have data.

    Attributes:
        head: where header and manifest end.
        tail: where the signatures begin.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.head, self.tail = manifest.metadata_size, manifest.data_stop
        self._spans = [(o.start, o.stop) for o in manifest.operations if o.start < o.stop]
        self._larger: dict[int, list[Span]] = {}

    def larger(self, limit: int) -> list[Span]:
        """Those of more than so many bytes."""
        if limit not in self._larger:
            self._larger[limit] = [span for span in self._spans if span[1] - span[0] > limit]
        return self._larger[limit]

    def whole(self, start: int, stop: int) -> Span:
        """[start, stop), and the rest of the operations that it begins and ends in, unless they are too large."""
        first, last = self._around(start), self._around(stop - 1)
        return min(start, first[0]), max(stop, last[1])

    def _around(self, offset: int) -> Span:
        i = bisect_right(self._spans, offset, key=lambda span: span[0]) - 1
        if i >= 0:
            start, stop = self._spans[i]
            if offset < stop <= start + LARGE:
                return start, stop
        return offset, offset + 1


def _measured(size: int, read: Read) -> MetadataDigest:
    """Of a file of this size, after its first bytes."""
    metadata = MetadataDigest(size)
    metadata.take(exactly(read, 0, min(HEADER_SIZE, size)))
    return metadata


def _head(metadata: MetadataDigest) -> Head | None:
    size, sha256 = metadata.size, metadata.sha256
    return Head(size, sha256) if size and sha256 is not None else None


def _terms(keys: Sequence[Key]) -> str:
    return " ".join(sorted(key.id for key in keys))


def _unsigned(signed: Signed) -> str:
    if not signed.signatures:
        return "it is not signed"
    if signed.valid_for_ue_rs:
        return f"update_engine looks at the first signature of version {CLIENT_VERSION}, which no given key has made"
    return "it is signed, and by none of the given keys"


def _resembles_a_payload(magic: bytes) -> bool:
    """Whether these are the first bytes of one, or were before they were damaged."""
    return sum(a == b for a, b in zip(magic, MAGIC, strict=False)) >= len(MAGIC) // 2
