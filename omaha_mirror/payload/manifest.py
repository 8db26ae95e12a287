"""The contents of a payload.

The data is in the order of the operations, without gap or overlap, the partition's first and then those of each
procedure; then follow the signatures, which end the file (update_engine payload_processor.cc, PerformOperation
and VerifyPayload). `read_manifest` guarantees that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from google.protobuf.message import DecodeError

from omaha_mirror.payload import update_metadata_pb2 as pb
from omaha_mirror.payload.header import HEADER_SIZE, PayloadError, Read, exactly, read_header

MAX_OPERATIONS = 65_536
MAX_PROCEDURES = 16
SIGNATURES_LIMIT = 64 * 1024
"""Bytes; two signatures of RSA-2048 take 528."""
DIGEST_SIZE = 32
PROCEDURES: dict[int | None, str] = {0: "KERNEL", 1: "PCR_POLICY"}
"""By type. update_engine skips procedures of other types, but reads their data (payload_processor.cc, PerformOperation)."""


class OperationType(IntEnum):
    """What a client does in an operation; the last two read its installed partition."""

    REPLACE = 0
    REPLACE_BZ = 1
    MOVE = 2
    BSDIFF = 3


_TYPES = frozenset(OperationType)


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of an installation.

    Attributes:
        type: of the operation.
        start: first byte of its data in the file.
        stop: byte after the last; `start` if it has no data.
        sha256: 32 raw bytes, of its data; empty if it has none.
    """

    type: OperationType
    start: int
    stop: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Info:
    """The content of a partition or file, before or after.

    Attributes:
        size: in bytes.
        sha256: 32 raw bytes.
    """

    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Section:
    """The installation of a partition or file.

    Attributes:
        name: `partition`, or the type of a procedure, such as `KERNEL`.
        operations: in file order.
        old: the required content before, if it matters.
        new: the content after.
    """

    name: str
    operations: tuple[Operation, ...]
    old: Info | None
    new: Info | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """Header and manifest of a payload.

    Attributes:
        metadata_size: bytes of both; the first data begins there.
        block_size: of the partition, in bytes.
        sections: the partition, then the procedures.
        data_stop: byte after the last data. A signature is over all before it.
        size: of the whole file; the signatures are between `data_stop` and this.
    """

    metadata_size: int
    block_size: int
    sections: tuple[Section, ...]
    data_stop: int
    size: int

    @property
    def operations(self) -> Iterator[Operation]:
        """All operations, in file order."""
        return (operation for section in self.sections for operation in section.operations)

    @property
    def is_delta(self) -> bool:
        """Whether it installs only over one version."""
        return any(section.old is not None for section in self.sections) or any(
            operation.type in (OperationType.MOVE, OperationType.BSDIFF)
            for operation in self.operations
        )


def read_metadata(read: Read, size: int) -> Manifest:
    """Read header and manifest.

    Args:
        read: reads the file.
        size: of the whole file, in bytes.

    Raises:
        NotAPayload: the file is no payload.
        PayloadError: no client would accept it.
        OSError: reading failed.
    """
    stop = _metadata_stop(read, size)
    return read_manifest(exactly(read, HEADER_SIZE, stop - HEADER_SIZE), size)


def read_metadata_if_ready(read: Read, ready: int, size: int) -> Manifest | None:
    """Read header and manifest of a growing file; None until its first `ready` bytes hold them.

    Raises: as `read_metadata`, as early as possible.
    """
    if ready < min(HEADER_SIZE, size) or ready < _metadata_stop(read, size):
        return None
    return read_metadata(read, size)


def _metadata_stop(read: Read, size: int) -> int:
    return read_header(exactly(read, 0, min(HEADER_SIZE, size)), size)


def read_manifest(data: bytes, size: int) -> Manifest:
    """Read a manifest.

    Args:
        data: the whole manifest.
        size: of the whole file, in bytes.

    Raises:
        PayloadError: it cannot be parsed, or does not describe a file of this size.
    """
    try:
        parsed = pb.DeltaArchiveManifest.FromString(data)
    except DecodeError:
        raise PayloadError("the manifest cannot be parsed", HEADER_SIZE) from None
    _refuse_many(parsed)
    position = metadata_size = HEADER_SIZE + len(data)
    sections = []
    for name, message, old, new in _parts(parsed):
        operations = tuple(_operations(name, message, position, metadata_size, size))
        position = operations[-1].stop if operations else position
        sections.append(Section(name, operations, _info(old, name), _info(new, name)))
    if position + _signatures_size(parsed, position - metadata_size) != size:
        raise PayloadError(
            f"what the manifest lists does not end with the file, at {size}", position
        )
    return Manifest(metadata_size, parsed.block_size, tuple(sections), position, size)


_Part = tuple[str, Iterable[pb.InstallOperation], pb.InstallInfo | None, pb.InstallInfo | None]


def _parts(parsed: pb.DeltaArchiveManifest) -> Iterator[_Part]:
    yield (
        "partition",
        parsed.partition_operations,
        parsed.old_partition_info if parsed.HasField("old_partition_info") else None,
        parsed.new_partition_info if parsed.HasField("new_partition_info") else None,
    )
    for procedure in parsed.procedures:
        kind = procedure.type if procedure.HasField("type") else None
        yield (
            PROCEDURES.get(kind, "procedure of unknown type"),
            procedure.operations,
            procedure.old_info if procedure.HasField("old_info") else None,
            procedure.new_info if procedure.HasField("new_info") else None,
        )


def _refuse_many(parsed: pb.DeltaArchiveManifest) -> None:
    procedures = len(parsed.procedures)
    if procedures > MAX_PROCEDURES:
        raise PayloadError(f"{procedures} procedures are more than {MAX_PROCEDURES}", HEADER_SIZE)
    operations = len(parsed.partition_operations) + sum(
        len(p.operations) for p in parsed.procedures
    )
    if operations > MAX_OPERATIONS:
        raise PayloadError(f"{operations} operations are more than {MAX_OPERATIONS}", HEADER_SIZE)


def _operations(
    section: str, messages: Iterable[pb.InstallOperation], position: int, base: int, size: int
) -> Iterator[Operation]:
    for i, message in enumerate(messages):
        name = f"operation {i} of {section}"
        kind = message.type if message.HasField("type") else None
        if kind not in _TYPES:
            raise PayloadError(f"{name}: no client knows its type, {kind}", HEADER_SIZE)
        start, digest = position, b""
        if message.data_length:
            position += message.data_length
            digest = message.data_sha256_hash
            if base + message.data_offset != start:
                raise PayloadError(
                    f"{name}: its data is at {base + message.data_offset}, not where the one before ends",
                    start,
                )
            if position > size:
                raise PayloadError(f"{name}: its data goes beyond the file's {size} bytes", start)
            if len(digest) != DIGEST_SIZE:
                raise PayloadError(
                    f"{name}: the SHA-256 of its data has {len(digest)} bytes", start
                )
        yield Operation(OperationType(kind), start, position, digest)


def _info(message: pb.InstallInfo | None, section: str) -> Info | None:
    if message is None:
        return None
    if len(message.hash) != DIGEST_SIZE:
        raise PayloadError(f"{section}: its SHA-256 has {len(message.hash)} bytes", HEADER_SIZE)
    return Info(message.size, message.hash)


def _signatures_size(parsed: pb.DeltaArchiveManifest, offset: int) -> int:
    """Bytes of the signatures, which must begin at `offset` of the data; 0 without signatures."""
    fields = parsed.HasField("signatures_offset"), parsed.HasField("signatures_size")
    if fields == (False, False):
        return 0
    if fields != (True, True):
        raise PayloadError("of the signatures, either offset or size is missing", HEADER_SIZE)
    if parsed.signatures_offset != offset:
        raise PayloadError(
            f"the signatures are at {parsed.signatures_offset} of the data, which ends at {offset}",
            HEADER_SIZE,
        )
    if parsed.signatures_size > SIGNATURES_LIMIT:
        raise PayloadError(
            f"signatures of {parsed.signatures_size} bytes are more than the {SIGNATURES_LIMIT} read here",
            HEADER_SIZE,
        )
    return parsed.signatures_size
