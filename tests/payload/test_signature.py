"""Who signed a payload, and which clients take it therefore."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from omaha_mirror.payload import (
    BadKey,
    Key,
    PayloadError,
    Signed,
    SignedPrefix,
    load_keys,
    read_key,
)
from omaha_mirror.payload import update_metadata_pb2 as pb
from omaha_mirror.payload.signature import MAX_SIGNATURES
from tests.payload.build import DATA, Signer, build, flipped, pem, private_key, public_key

PIECES = [b"first" * 100, b"second" * 50]
VENDOR_PEM = DATA / "update-payload-key.pub.pem"
OTHER_PEM = DATA / "wrong-key.pub.pem"
OEM = (DATA / "3815.2.1" / "oem-azure.gz").read_bytes()


def judge(data: bytes, *keys: Key, step: int = 1 << 20) -> Signed:
    prefix = SignedPrefix(len(data))
    for start in range(0, len(data), step):
        prefix.update(memoryview(data)[start : start + step])
    return prefix.judge(keys)


@pytest.mark.parametrize(
    "name",
    [
        "3815.2.1/update.gz",
        "3815.2.1/oem-azure.gz",
        "3815.2.1/flatcar-podman.gz",
        "delta/update.gz",
    ],
)
def test_the_vendors_payloads_are_valid_under_its_key_alone(name: str) -> None:
    data = (DATA / name).read_bytes()
    other, vendor = load_keys([OTHER_PEM, VENDOR_PEM])
    signed = judge(data, other, vendor)
    assert [(s.version, s.key) for s in signed.signatures] == [(2, vendor)]
    assert (signed.valid_for_update_engine, signed.valid_for_ue_rs) == (True, True)
    refused = judge(data, other)
    assert [(s.version, s.key) for s in refused.signatures] == [(2, None)]
    assert (refused.valid_for_update_engine, refused.valid_for_ue_rs) == (False, False)


@pytest.mark.parametrize(
    ("layout", "update_engine", "ue_rs"),
    [
        ([], False, False),
        ([(2, "vendor")], True, True),
        ([(2, "other")], False, False),
        ([(1, "other"), (2, "vendor")], True, True),
        ([(1, "vendor"), (2, "other")], False, True),
        ([(2, "vendor"), (2, "other")], True, True),
        ([(2, "other"), (2, "vendor")], False, True),
        ([(1, "vendor")], False, True),
        ([(None, "vendor")], False, True),
        ([(3, "vendor")], False, True),
    ],
)
def test_update_engine_takes_the_first_of_version_2_and_ue_rs_any(
    layout: list[tuple[int | None, str]], update_engine: bool, ue_rs: bool
) -> None:
    signers: list[Signer] = [(version, private_key(name)) for version, name in layout]
    vendor = public_key("vendor")
    signed = judge(build(PIECES, signers=signers), vendor)
    assert [(s.version, s.key) for s in signed.signatures] == [
        (version, vendor if name == "vendor" else None) for version, name in layout
    ]
    assert (signed.valid_for_update_engine, signed.valid_for_ue_rs) == (update_engine, ue_rs)


def test_while_keys_rotate_either_is_good() -> None:
    data = build(PIECES, signers=[(2, private_key("vendor"))])
    signed = judge(data, public_key("other"), public_key("vendor"))
    assert signed.valid_for_update_engine
    assert signed.signatures[0].key == public_key("vendor")


@pytest.mark.parametrize("step", [1, 7, 19, 20, 21, 264, 1000, 10_000])
def test_the_size_of_the_pieces_does_not_matter(step: int) -> None:
    data = build(PIECES, signers=[(2, private_key("vendor"))])
    assert judge(data, public_key("vendor"), step=step).valid_for_update_engine
    assert not judge(
        flipped(data, len(data) - 265), public_key("vendor"), step=step
    ).valid_for_update_engine


def test_what_is_no_payload_is_refused_at_its_first_bytes() -> None:
    with pytest.raises(PayloadError, match="not an update payload"):
        SignedPrefix(1 << 40).update(b"\x1f\x8b" * 10)


def test_nothing_is_said_before_the_last_byte() -> None:
    prefix = SignedPrefix(len(OEM))
    prefix.update(OEM[:-1])
    with pytest.raises(RuntimeError, match="703607 of 703608 bytes"):
        prefix.judge(load_keys([VENDOR_PEM]))


def with_blob(blob: bytes) -> bytes:
    def edit(manifest: pb.DeltaArchiveManifest) -> None:
        manifest.signatures_offset = sum(map(len, PIECES))
        manifest.signatures_size = len(blob)

    return build(PIECES, edit=edit) + blob


def test_signatures_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(PayloadError, match="the signatures cannot be parsed"):
        judge(with_blob(b"\x0a\xff\xff\xff\x7f"))
    with pytest.raises(PayloadError, match="17 signatures are more than 16"):
        judge(with_blob(b"\x0a\x00" * (MAX_SIGNATURES + 1)))


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\x0a\x02\x08\x02",
        b"\x0a\x04\x08\x02\x12\x00",
        b"\x0a\x06\x08\x02\x12\x02ab",
        pb.Signatures(
            signatures=[pb.Signatures.Signature(version=2, data=b"x" * 60_000)]
        ).SerializeToString(),
    ],
    ids=["no blob", "no data", "empty", "short", "long"],
)
def test_a_signature_of_another_size_is_none(blob: bytes) -> None:
    assert not judge(with_blob(blob), public_key("vendor")).valid_for_ue_rs


def test_the_id_of_a_key_is_the_digest_of_its_public_key_info() -> None:
    [key] = load_keys([VENDOR_PEM])
    lines = VENDOR_PEM.read_text().splitlines()
    der = base64.b64decode("".join(line for line in lines if "-----" not in line))
    assert key.id == hashlib.sha256(der).hexdigest()[:16]
    assert key.name == str(VENDOR_PEM)


def pem_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private_pem() -> bytes:
    key = private_key("vendor")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: b"", "no PEM public key"),
        (lambda: b"ssh-rsa AAAA", "no PEM public key"),
        (lambda: pem("vendor")[:200], "no PEM public key"),
        (private_pem, "is a private key"),
        (lambda: pem("vendor") + pem("other"), "more than one PEM block"),
        (lambda: pem_of(ec.generate_private_key(ec.SECP256R1())), "is no RSA key"),
        (lambda: pem_of(rsa.generate_private_key(65537, 1024)), "1024 bits: fewer than 2048"),
    ],
    ids=["empty", "ssh", "cut", "private", "two", "elliptic", "short"],
)
def test_a_key_that_cannot_be_used_is_refused_by_name(
    make: Callable[[], bytes], words: str
) -> None:
    with pytest.raises(BadKey, match=rf"^vendor\.pem .*{words}"):
        read_key(make(), "vendor.pem")


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadKey, match=r"none\.pem cannot be read: No such file"):
        load_keys([VENDOR_PEM, tmp_path / "none.pem"])
    with pytest.raises(BadKey, match="cannot be read: Is a directory"):
        load_keys([tmp_path])
    with pytest.raises(BadKey, match="is larger than 65536 bytes"):
        load_keys([DATA / "3815.2.1" / "oem-azure.gz"])
