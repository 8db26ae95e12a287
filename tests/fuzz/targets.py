"""What is fuzzed: each target takes any bytes, and raises where a promise is broken, or anything that was not promised."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple, TypeVar

from google.protobuf.message import DecodeError

from omaha_mirror.bundle import BadBundle, Bundle, Entry, Member
from omaha_mirror.bundle.layout import BundleReader, opening, size_of
from omaha_mirror.bundle.model import read_bundle
from omaha_mirror.catalog.model import Release
from omaha_mirror.catalog.upstream_answer import read_upstream
from omaha_mirror.omaha import Limits, OmahaError, parse_request, parse_response
from omaha_mirror.omaha.answer import check_for_sysexts, read_answer
from omaha_mirror.omaha.messages import serialise_request, serialise_response
from omaha_mirror.payload import (
    Manifest,
    OperationDigests,
    PayloadError,
    SignedPrefix,
    load_keys,
    read_manifest,
    read_metadata,
)
from omaha_mirror.payload import update_metadata_pb2 as pb
from omaha_mirror.payload.header import HEADER_SIZE
from tests.omaha.data import names
from tests.omaha.data import read as recorded
from tests.payload.build import DATA, build, reading

T = TypeVar("T")

ROOM = 1 << 24
"""Bytes; what is written again is escaped and may be longer than what was read."""
WRITTEN = Limits(body=ROOM, elements=10_000, value=ROOM)
KEYS = load_keys([DATA / "update-payload-key.pub.pem"])


def attempt(read: Callable[[], T], *refusals: type[Exception]) -> T | None:
    """What `read` gives; None where it refuses as it may: with one line for people."""
    try:
        return read()
    except refusals as refusal:
        message = str(refusal)
        assert message.splitlines() == [message], f"not one line: {message!r}"
        assert "\x1b" not in message
        assert len(message) < 1000, f"too long a line: {message!r}"
        return None


def payload(data: bytes) -> None:
    """A whole file, read as one, as a stream, and as one that is proven."""
    size = len(data)
    manifest = attempt(lambda: read_metadata(reading(data), size), PayloadError)
    prefix, operations = SignedPrefix(size), OperationDigests(size)

    def judge() -> object:
        prefix.update(memoryview(data)[: size // 2])
        prefix.update(memoryview(data)[size // 2 :])
        assert prefix.manifest is not None
        return prefix.judge(KEYS)

    attempt(judge, PayloadError)
    assert prefix.manifest == manifest
    verdicts = operations.examine([(0, size)] if size else [], reading(data), budget=size)
    assert operations.manifest == manifest
    if manifest is not None:
        check_order(manifest)
        judged = sum(stop - start for start, stop in verdicts.good + verdicts.wrong)
        assert judged == manifest.data_stop - manifest.metadata_size


def manifest(data: bytes) -> None:
    """A manifest in a file of just the size that it asks for."""
    try:
        parsed = pb.DeltaArchiveManifest.FromString(data)
    except DecodeError:
        parsed = pb.DeltaArchiveManifest()
    parts = [parsed.partition_operations, *(p.operations for p in parsed.procedures)]
    size = HEADER_SIZE + len(data) + parsed.signatures_size
    size += sum(operation.data_length for part in parts for operation in part)
    read = attempt(lambda: read_manifest(data, size), PayloadError)
    if read is not None:
        check_order(read)


def check_order(manifest: Manifest) -> None:
    """The operations follow one another from the end of the manifest to the signatures."""
    position = manifest.metadata_size
    for operation in manifest.operations:
        assert operation.start == position
        assert operation.stop >= position
        assert len(operation.sha256) == (32 if operation.stop > position else 0)
        position = operation.stop
    assert position == manifest.data_stop <= manifest.size


def request(data: bytes) -> None:
    """What is read can be written, and says the same then."""
    message = attempt(lambda: parse_request(data), OmahaError)
    if message is not None:
        written = serialise_request(message)
        assert parse_request(written, Limits(body=ROOM)) == message


def response(data: bytes) -> None:
    """What is read can be written, says the same then, and is answered or refused as a machine would."""
    message = attempt(lambda: parse_response(data), OmahaError)
    if message is not None:
        assert parse_response(serialise_response(message), WRITTEN) == message
        attempt(lambda: read_answer(message), OmahaError)
        attempt(lambda: check_for_sysexts(message), OmahaError)


def bundle(data: bytes) -> None:
    """What stands at the front of a bundle; and the same bytes as a description with everything around it right."""
    attempt(lambda: opened(data), BadBundle)
    text = forged(data)
    read = attempt(lambda: read_bundle(text), BadBundle)
    assert attempt(lambda: opened(opening(text)), BadBundle) == read
    if read is not None:
        assert read_bundle(read.dump()) == read
        assert size_of(text, read) > len(text)
        for member in read.members:
            assert os.path.normpath(member.path) == member.path
            assert member.path.split("/")[0] == read.board


def forged(text: bytes) -> bytes:
    """The description with the id that each release must have: anybody can work it out."""
    try:
        told = json.loads(text)
        for item in told["releases"]:
            check = parse_response(item["answer"].encode()).apps[0].update_check
            assert check is not None
            names = item["app_id"], item["board"], item["version"]
            item["id"] = Release(*names, check, item["urls"]).id
        return json.dumps(told).encode()
    except Exception:
        return text


def opened(data: bytes) -> Bundle:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    _, read = asyncio.run(BundleReader(chunks()).open())
    return read


def payload_seeds() -> list[bytes]:
    signatures = pb.Signatures()
    signatures.signatures.add(version=2, data=bytes(256))
    blob = signatures.SerializeToString()

    def announce(manifest: pb.DeltaArchiveManifest) -> None:
        manifest.signatures_offset, manifest.signatures_size = 18, len(blob)

    return [
        build([b"first", b"second"]),
        build([b"first", b"second"], kernel=[b"kernels"], edit=announce) + blob,
    ]


def manifest_seeds() -> list[bytes]:
    found = []
    for path in sorted(DATA.rglob("*.gz")):
        data = path.read_bytes()
        stop = read_metadata(reading(data), len(data)).metadata_size
        found.append(data[HEADER_SIZE:stop])
    return found


def bundle_seeds() -> list[bytes]:
    told = parse_response(recorded("response_upstream"))
    app_id, board = told.apps[0].app_id, "amd64-usr"
    offered = read_upstream(told, app_id, board, allowed=lambda _: None, now=0.0).releases
    entries = []
    for release, floor in ((each.release, each.floor) for each in offered):
        files = [(file, file.sha256) for file in release.files]
        members = tuple(Member(release, file, digest) for file, digest in files if digest)
        entries.append(Entry(release, floor, members))
    text = Bundle("stable", board, tuple(entries)).dump()
    return [text, opening(text)]


class Target(NamedTuple):
    """What is called with any bytes, and examples of those it should get."""

    take: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


TARGETS = {
    "payload": Target(payload, payload_seeds),
    "manifest": Target(manifest, manifest_seeds),
    "request": Target(request, lambda: [*map(recorded, names("request_*") + names("broken_*"))]),
    "response": Target(response, lambda: [*map(recorded, names("response_*"))]),
    "bundle": Target(bundle, bundle_seeds),
}
