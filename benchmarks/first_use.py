"""First use after a start: many readers of a blob that is proven once more while it is served, against a verified hit."""

import argparse
import asyncio
import random
import time

from benchmarks.scene import scene
from benchmarks.servers import Server, mirror, path_of
from benchmarks.table import show
from omaha_mirror.config import Address
from tests.cache.payloads import signed
from tests.support.talk import dial, request

VERSION = "4000.0.0"
PATH = path_of(VERSION)
OPERATION = 1_000_000
READERS = 1000
SHARE = 3
"""One reader in so many begins at 80 %."""


async def main(megabytes: int, readers: int) -> None:
    body = signed([random.Random(i).randbytes(OPERATION) for i in range(megabytes)])
    async with scene() as here:
        here.origin.put(PATH, body)
        ours = mirror(here.directory, here.origin.origin, [VERSION])
        async with ours:
            await here.clients.download(ours.port, PATH)
        async with mirror(here.directory, here.origin.origin, [VERSION]) as again:
            first = await _round(again, len(body), readers)
            hit = await _round(again, len(body), readers)
    rows = [(name, f"{s:.2f}", f"{s / hit:.2f}") for name, s in (("first", first), ("hit", hit))]
    title = f"First use: {megabytes} MB, {readers} readers, one in {SHARE} from 80 %"
    show(title, ("use", "slowest, s", "/ hit"), rows)


async def _round(server: Server, size: int, readers: int) -> float:
    """Seconds until the slowest reader has its last byte."""
    began = time.monotonic()
    starts = [size * 4 // 5 if i % SHARE == 0 else 0 for i in range(readers)]
    async with asyncio.TaskGroup() as group:
        for start in starts:
            group.create_task(_read(server, start, size))
    return time.monotonic() - began


async def _read(server: Server, start: int, size: int) -> None:
    async with dial(Address("127.0.0.1", server.port)) as talk:
        await talk.send(request("GET", PATH, {"Range": f"bytes={start}-"} if start else {}))
        await talk.head()
        left = size - start
        while left and (data := await talk.some()):
            left -= len(data)
        if left:
            raise RuntimeError(f"{left} bytes are missing")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--readers", type=int, default=READERS)
    asyncio.run(main(**vars(parser.parse_args())))
