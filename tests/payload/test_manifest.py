"""Header and manifest: what is read, and what is refused with a clear word, in bounded time and memory."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omaha_mirror.payload import (
    Info,
    Manifest,
    NotAPayload,
    OperationType,
    PayloadError,
    read_manifest,
    read_metadata,
    read_metadata_if_ready,
)
from omaha_mirror.payload import update_metadata_pb2 as pb
from omaha_mirror.payload.header import HEADER_SIZE, MANIFEST_LIMIT
from omaha_mirror.payload.manifest import MAX_OPERATIONS, MAX_PROCEDURES, SIGNATURES_LIMIT
from tests.payload.build import DATA, Edit, build, flipped, private_key, reading, with_header

PIECES = [b"first", b"the second", b"3"]
OEM = (DATA / "3815.2.1" / "oem-azure.gz").read_bytes()
PARTITION_16_MIB = "f0593a9a2c02"


def metadata(data: bytes) -> Manifest:
    return read_metadata(reading(data), len(data))


def signed(edit: Edit = lambda _: None) -> bytes:
    return build(PIECES, kernel=[b"kernel"], signers=[(2, private_key("vendor"))], edit=edit)


@pytest.mark.parametrize(
    ("name", "delta", "metadata_size", "data_stop", "sections"),
    [
        ("3815.2.1/update.gz", False, 1113, 3981025, {"partition": 16, "KERNEL": 1}),
        ("3815.2.1/oem-azure.gz", False, 147, 703344, {"partition": 1}),
        ("3815.2.1/flatcar-podman.gz", False, 147, 703486, {"partition": 1}),
        ("delta/update.gz", True, 1154, 425561, {"partition": 13, "KERNEL": 1}),
    ],
)
def test_the_vendors_payloads_are_read_as_they_were_made(
    name: str, delta: bool, metadata_size: int, data_stop: int, sections: dict[str, int]
) -> None:
    manifest = metadata((DATA / name).read_bytes())
    assert (manifest.is_delta, manifest.block_size) == (delta, 4096)
    assert (manifest.metadata_size, manifest.data_stop) == (metadata_size, data_stop)
    assert {s.name: len(s.operations) for s in manifest.sections} == sections
    assert all((section.old is not None) == delta for section in manifest.sections)
    position = metadata_size
    for operation in manifest.operations:
        assert operation.start == position
        position = operation.stop
    assert position == data_stop


def test_what_a_partition_becomes_is_told() -> None:
    partition = metadata((DATA / "delta" / "update.gz").read_bytes()).sections[0]
    assert partition.old is not None
    assert partition.old.size == 16777216
    assert partition.new is not None
    assert partition.new.sha256.hex().startswith(PARTITION_16_MIB)
    assert {o.type for o in partition.operations} == set(OperationType)


def test_operations_have_their_place_in_the_file() -> None:
    data = signed()
    manifest = metadata(data)
    pieces = [data[o.start : o.stop] for o in manifest.operations]
    assert pieces == [*PIECES, b"kernel"]
    assert manifest.sections[1].new == Info(4096, hashlib.sha256(b"kernel").digest())
    assert manifest.size - manifest.data_stop == 264


def move(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.partition_operations.add(type=2)


def old_kernel(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.procedures[0].old_info.hash = bytes(32)


@pytest.mark.parametrize("edit", [move, old_kernel])
def test_what_builds_on_another_version_is_a_delta(edit: Edit) -> None:
    assert not metadata(signed()).is_delta
    assert metadata(signed(edit)).is_delta


def unknown_procedure(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.procedures[0].type = 7


def no_procedure(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.procedures[0].ClearField("type")


@pytest.mark.parametrize("edit", [unknown_procedure, no_procedure])
def test_a_procedure_that_clients_skip_is_none_of_those_they_know(edit: Edit) -> None:
    assert metadata(signed(edit)).sections[1].name == "procedure of unknown type"


def test_a_growing_file_is_read_as_soon_as_the_manifest_is_there() -> None:
    stop = 147
    for ready in range(stop):
        assert read_metadata_if_ready(reading(OEM[:ready]), ready, len(OEM)) is None
    assert read_metadata_if_ready(reading(OEM[:stop]), stop, len(OEM)) == metadata(OEM)


def overlap(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.partition_operations[1].data_offset -= 1


def gap(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.partition_operations[1].data_offset += 1


def unordered(manifest: pb.DeltaArchiveManifest) -> None:
    first, second, _ = manifest.partition_operations
    first.data_offset, second.data_offset = len(PIECES[1]), 0


def long_data(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.partition_operations[2].data_length = 2**64 - 1


def wraps_at_32_bits(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.partition_operations[0].data_length += 2**32


def unknown_type(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.partition_operations[0].type = 4


def no_type(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.partition_operations[0].ClearField("type")


def no_digest(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.procedures[0].operations[0].ClearField("data_sha256_hash")


def short_info(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.new_partition_info.hash = b"short"


def no_signatures_size(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.ClearField("signatures_size")


def no_signatures_offset(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.ClearField("signatures_offset")


def signatures_elsewhere(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.signatures_offset -= 1


def signatures_too_short(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.signatures_size -= 1


def signatures_too_large(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.signatures_size = SIGNATURES_LIMIT + 1


def no_signatures_at_all(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.ClearField("signatures_size")
    manifest.ClearField("signatures_offset")


def operations_galore(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.MergeFromString(b"\x0a\x00" * MAX_OPERATIONS)


def operations_galore_in_procedures(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.procedures[0].MergeFromString(b"\x12\x00" * MAX_OPERATIONS)


def procedures_galore(manifest: pb.DeltaArchiveManifest) -> None:
    manifest.MergeFromString(b"\x52\x00" * MAX_PROCEDURES)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (overlap, "operation 1 of partition: its data is at"),
        (gap, "operation 1 of partition: its data is at"),
        (unordered, "operation 0 of partition: its data is at"),
        (long_data, "operation 2 of partition: its data goes beyond"),
        (wraps_at_32_bits, "operation 0 of partition: its data goes beyond"),
        (unknown_type, "operation 0 of partition: no client knows its type, 4"),
        (no_type, "operation 0 of partition: no client knows its type, None"),
        (no_digest, "operation 0 of KERNEL: the SHA-256 of its data has 0 bytes"),
        (short_info, "partition: its SHA-256 has 5 bytes"),
        (no_signatures_size, "either offset or size is missing"),
        (no_signatures_offset, "either offset or size is missing"),
        (signatures_elsewhere, "the signatures are at 21 of the data, which ends at 22"),
        (signatures_too_short, "does not end with the file"),
        (signatures_too_large, "signatures of 65537 bytes are more than"),
        (no_signatures_at_all, "does not end with the file"),
        (operations_galore, "65540 operations are more than 65536"),
        (operations_galore_in_procedures, "65540 operations are more than 65536"),
        (procedures_galore, "17 procedures are more than 16"),
    ],
)
def test_a_manifest_that_clients_choke_on_is_refused(edit: Edit, words: str) -> None:
    with pytest.raises(PayloadError, match=words):
        metadata(signed(edit))


def test_a_refusal_says_at_which_byte() -> None:
    with pytest.raises(PayloadError, match=r"\(at byte 4\)") as refused:
        metadata(flipped(OEM, 11, 2))
    assert (refused.value.offset, refused.value.message) == (
        4,
        "format version 3; clients accept only 1",
    )


@pytest.mark.parametrize("data", [b"", b"C", b"\x1f\x8b\x08", b"<html>" * 100])
def test_another_file_is_no_payload(data: bytes) -> None:
    with pytest.raises(NotAPayload):
        metadata(data)


def test_a_file_cut_anywhere_or_with_a_tail_is_refused() -> None:
    data = signed()
    for size in range(len(data)):
        with pytest.raises(PayloadError):
            metadata(data[:size])
    with pytest.raises(PayloadError, match="does not end with the file"):
        metadata(data + b"\0")


@pytest.mark.parametrize("at", range(HEADER_SIZE))
def test_every_flipped_bit_of_the_header_is_refused(at: int) -> None:
    for bit in range(8):
        with pytest.raises(PayloadError):
            metadata(flipped(OEM, at, 1 << bit))


@pytest.mark.parametrize("claimed", [MANIFEST_LIMIT + 1, 2**32, 2**63, 2**64 - 1])
@pytest.mark.parametrize("size", [1000, 2**70])
def test_a_huge_manifest_is_refused_before_it_is_read(claimed: int, size: int) -> None:
    header = with_header(b"")[:12] + claimed.to_bytes(8, "big")

    def read(offset: int, count: int) -> bytes:
        assert offset + count <= HEADER_SIZE
        return header[offset : offset + count]

    with pytest.raises(PayloadError, match=f"a manifest of {claimed} bytes"):
        read_metadata(read, size)


def test_a_manifest_that_blows_up_is_refused_in_bounded_memory() -> None:
    code = """
import resource
from omaha_mirror.payload import PayloadError, read_manifest
from omaha_mirror.payload.header import MANIFEST_LIMIT
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bombs = [b"\\x0a\\x00", b"\\x52\\x00", b"\\x0a\\x04\\x32\\x00\\x32\\x00", b"\\x12\\x00", b"\\x4a\\x02\\x12\\x00"]
before = peak()
for bomb in bombs:
    try:
        read_manifest(bomb * (MANIFEST_LIMIT // len(bomb)), 10**9)
    except PayloadError as error:
        print(error)
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    *refusals, kilobytes = done.stdout.splitlines()
    assert len(refusals) == 5
    assert int(kilobytes) < 200 * 1024


def test_the_manifest_of_a_large_payload_is_read() -> None:
    """That of 500 MB has an operation for each MiB."""
    manifest = pb.DeltaArchiveManifest()
    for i in range(500):
        manifest.partition_operations.add(
            type=1, data_offset=i * 2**20, data_length=2**20, data_sha256_hash=bytes([i % 256]) * 32
        )
    size = HEADER_SIZE + manifest.ByteSize() + 500 * 2**20
    read = read_manifest(manifest.SerializeToString(), size)
    assert [operation.sha256[0] for operation in read.operations] == [i % 256 for i in range(500)]
    check_layout(read, size)


def check_layout(manifest: Manifest, size: int) -> None:
    """What whoever reads a manifest relies on."""
    position = manifest.metadata_size
    for operation in manifest.operations:
        assert operation.start == position
        assert len(operation.sha256) == (32 if operation.stop > operation.start else 0)
        position = operation.stop
    assert position == manifest.data_stop <= manifest.size == size


@given(st.binary(max_size=200), st.integers(0, 2**40))
@example(b"", HEADER_SIZE)
def test_any_bytes_are_a_sound_manifest_or_are_refused(data: bytes, size: int) -> None:
    try:
        manifest = read_manifest(data, size)
    except PayloadError:
        return
    check_layout(manifest, size)


SMALL = signed()
SMALL_METADATA = metadata(SMALL).metadata_size


@given(
    st.lists(
        st.tuples(st.integers(0, SMALL_METADATA - 1), st.integers(0, 255)), min_size=1, max_size=4
    ),
    st.integers(-2, 2),
)
def test_a_damaged_header_or_manifest_is_still_sound_or_is_refused(
    damage: list[tuple[int, int]], longer: int
) -> None:
    data = bytearray(SMALL)
    for at, value in damage:
        data[at] = value
    data = data[:longer] if longer < 0 else data + bytes(longer)
    try:
        manifest = metadata(bytes(data))
    except PayloadError:
        return
    check_layout(manifest, len(data))
