"""With keys, a bundle is taken only if each of its packages is signed by one of them."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from omaha_mirror.aio.clock import Clock
from omaha_mirror.bundle import BadBundle, ExportRequest, Importer, ImportResult
from omaha_mirror.cache import Cache, DiskStore, Ledger
from omaha_mirror.catalog import Catalog, LookupRequest, LookupResult
from omaha_mirror.omaha import FLATCAR_APP_ID
from omaha_mirror.packages.payload_prover import PayloadProvers
from omaha_mirror.payload import Key, load_keys
from tests.bundle import scene
from tests.bundle.scene import BOARD, bundle_of, pieces, without_line
from tests.e2e.site import Box
from tests.payload.build import DATA, build, private_key, public_key
from tests.support.mirror import PAYLOAD, real_payload
from tests.support.nebraska import Nebraska
from tests.support.upstream import Upstream

VERSION = "3815.2.1"
FLATCAR = DATA / "update-payload-key.pub.pem"
WRONG = DATA / "wrong-key.pub.pem"
OTHER = (1, private_key("another"))
OURS = (2, private_key("ours"))
OPERATIONS = [random.Random(n).randbytes(500) for n in range(3)]


async def bundle_with(directory: Path, upstream: Upstream, payload: bytes) -> bytes:
    nebraska = Nebraska(upstream)
    nebraska.publish(VERSION, {PAYLOAD: payload, "oem-azure.gz": real_payload("oem-azure.gz")})
    nebraska.group("stable", VERSION)
    return await bundle_of(directory, nebraska, ExportRequest("stable", BOARD))


async def take_in(
    directory: Path, bundle: bytes, keys: Sequence[Key]
) -> tuple[ImportResult, Cache]:
    """Take it in where these keys count."""

    async def nobody(_: LookupRequest) -> LookupResult:
        return LookupResult()

    clock = Clock()
    store = DiskStore(directory / "cache", clock)
    cache = Cache(store, Ledger(10**9, 0), clock, provers=PayloadProvers(keys))
    catalog = Catalog(nobody, directory / "catalog.json", PAYLOAD, rng=random.Random())
    await cache.start()
    await catalog.start()
    try:
        taken = await Importer(cache, catalog, [FLATCAR_APP_ID]).import_bundle(pieces(bundle))
    finally:
        await cache.close()
        await catalog.close()
    return taken, cache


async def test_real_packages_are_taken_with_the_vendor_s_key(
    tmp_path: Path, upstream: Upstream
) -> None:
    bundle = await bundle_with(tmp_path, upstream, real_payload())
    taken, cache = await take_in(tmp_path, bundle, load_keys([FLATCAR]))
    assert taken.versions == (VERSION,)
    [blob] = (await cache.contents()).blobs
    assert cache.holds(blob.key)


@pytest.mark.parametrize(
    ("payload", "keys", "words"),
    [
        (real_payload(), load_keys([WRONG]), "by none of the given keys"),
        (build(OPERATIONS), load_keys([FLATCAR]), "not signed"),
        (build(OPERATIONS, signers=[OURS]), load_keys([FLATCAR]), "by none of the given keys"),
        (build(OPERATIONS, signers=[OTHER]), [public_key("another")], "first signature of version"),
        ((DATA / "delta" / "update.gz").read_bytes(), load_keys([FLATCAR]), "delta"),
        (b"no payload at all" * 100, load_keys([FLATCAR]), "no payload"),
    ],
    ids=["wrong key", "unsigned", "another's", "for others", "delta", "no payload"],
)
async def test_what_machines_would_not_take_is_refused(
    tmp_path: Path, upstream: Upstream, payload: bytes, keys: Sequence[Key], words: str
) -> None:
    bundle = await bundle_with(tmp_path, upstream, payload)
    with pytest.raises(BadBundle, match=words):
        await take_in(tmp_path, bundle, keys)
    assert not [*(tmp_path / "cache" / "blobs").iterdir()]
    assert not [*(tmp_path / "cache" / "incoming").iterdir()]


async def test_what_was_imported_before_there_was_a_key_goes_on_if_it_is_signed(
    tmp_path: Path, upstream: Upstream
) -> None:
    """There is no line: what is here is judged from the disk."""
    bundle = await bundle_with(tmp_path, upstream, real_payload())
    async with without_line(tmp_path) as mirror:
        await scene.take_in(mirror, bundle)
        await Box(mirror).offer()
    for keys, offered in (([FLATCAR], True), ([WRONG, FLATCAR], True), ([WRONG], False)):
        settings = {"public_keys": list(map(str, keys))}
        async with without_line(tmp_path, upstream=settings) as mirror:
            box = Box(mirror)
            if offered:
                assert await box.download(await box.offer()) == real_payload()
            else:
                await box.nothing()


async def test_one_of_several_keys_is_enough(tmp_path: Path, upstream: Upstream) -> None:
    payload = build(OPERATIONS, signers=[OTHER, OURS])
    bundle = await bundle_with(tmp_path, upstream, payload)
    await take_in(tmp_path, bundle, [*load_keys([WRONG]), public_key("ours")])
