"""A whole file: all there is to say of it, and no flipped byte escapes."""

import hashlib
from base64 import b64encode
from pathlib import Path

import pytest

from omaha_mirror.payload import (
    NotAPayload,
    OperationDigests,
    PayloadError,
    Report,
    Verdicts,
    load_keys,
    read_metadata,
    verify,
)
from omaha_mirror.payload.signature import SignedPrefix
from tests.payload.build import DATA, build, flipped, private_key, public_key, reading

OEM = (DATA / "3815.2.1" / "oem-azure.gz").read_bytes()
[VENDOR] = load_keys([DATA / "update-payload-key.pub.pem"])


def verified(path: Path, data: bytes) -> Report:
    path.write_bytes(data)
    with path.open("rb") as file:
        return verify(file, [VENDOR, public_key("vendor")])


def test_a_right_file_is_right_in_all() -> None:
    with (DATA / "delta" / "update.gz").open("rb") as file:
        report = verify(file, [VENDOR])
    assert report.sha256.hex() == "6e3808bb16e3892be70a7953020691125f6cfe607585839d42bd858f2495d584"
    assert b64encode(report.sha1) == b"HvljmCEeHguKUtdo6JQXKlx/u8w="
    assert report.wrong == ()
    assert report.signed.valid_for_update_engine
    assert report.manifest.is_delta


def test_wrong_data_is_told_though_it_is_signed_so(tmp_path: Path) -> None:
    """Vendors sign what they made, right or wrong."""
    data = build(
        [b"one", b"two"],
        signers=[(2, private_key("vendor"))],
        edit=lambda m: setattr(m.partition_operations[1], "data_sha256_hash", bytes(32)),
    )
    report = verified(tmp_path / "payload", data)
    assert report.signed.valid_for_update_engine
    assert [data[start:stop] for start, stop in report.wrong] == [b"two"]


def test_a_file_larger_than_a_chunk_is_read_whole(tmp_path: Path) -> None:
    pieces = [hashlib.shake_128(bytes([i])).digest(900_000) for i in range(5)]
    data = build(pieces, kernel=[b"k"], signers=[(2, private_key("vendor"))])
    report = verified(tmp_path / "payload", data)
    assert (report.sha256, report.wrong) == (hashlib.sha256(data).digest(), ())
    assert report.sha1 == hashlib.sha1(data).digest()
    assert report.signed.valid_for_update_engine
    bad = flipped(data, 2_500_000)
    report = verified(tmp_path / "payload", bad)
    assert len(report.wrong) == 1
    assert not report.signed.valid_for_update_engine


@pytest.mark.parametrize("data", [b"", b"CrA", b"<html>"])
def test_another_file_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(NotAPayload):
        verified(tmp_path / "payload", data)


def test_every_flipped_byte_of_a_real_package_is_in_a_region_that_is_held_against_a_digest() -> (
    None
):
    """The data by the operations, and all before the signatures by the signature: each byte once, in order."""
    manifest = read_metadata(reading(OEM), len(OEM))
    operations = OperationDigests(len(OEM))
    assert operations.examine([(0, len(OEM))], reading(OEM)).wrong == ()
    assert [(o.start, o.stop) for o in manifest.operations] == [(147, 703344)]
    assert manifest.metadata_size == 147


def test_every_flipped_bit_of_header_manifest_and_signatures_of_a_real_package_is_detected() -> (
    None
):
    outside = [*range(147), *range(len(OEM) - 264, len(OEM))]
    for at in outside:
        for bit in range(8):
            assert is_detected(flipped(OEM, at, 1 << bit)), (at, bit)
    assert not is_detected(OEM)


def test_a_flipped_byte_anywhere_in_the_data_of_a_real_package_is_detected_twice() -> None:
    for at in range(147, len(OEM) - 264, 4099):
        bad = flipped(OEM, at, 0x80)
        operations = OperationDigests(len(bad))
        assert operations.examine([(0, len(bad))], reading(bad)) == Verdicts(wrong=((147, 703344),))
        assert is_detected(bad)


def is_detected(data: bytes) -> bool:
    prefix = SignedPrefix(len(data))
    try:
        prefix.update(data)
        return not prefix.judge([VENDOR]).valid_for_update_engine
    except PayloadError:
        return True
