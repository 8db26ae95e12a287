"""An operator of a run: does what the admin API does, by the calls that its handlers make."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import assert_never

from omaha_mirror import config
from omaha_mirror.bundle import BadBundle, ExportRequest
from omaha_mirror.cache.errors import CacheError
from omaha_mirror.policy.track_rules import BadOverride
from omaha_mirror.policy.tracks import NothingToFetch
from omaha_mirror.service import Service
from tests.sim.books import Books, Ruled
from tests.sim.releases import BOARD, Release
from tests.sim.schedule import Act

RELOADED: Sequence[dict[str, object]] = (
    {"max_fills": 1},
    {"max_fills": 5},
    {"rate_limit": 200_000},
    {"rate_limit": None},
)
"""What a reload changes, in turn."""


class Operator:
    """Of one mirror.

    Args:
        releases: that there are.
        books: told of each rule.
        say: adds a line to the story.
    """

    def __init__(
        self, releases: Sequence[Release], books: Books, say: Callable[[str], None]
    ) -> None:
        self._releases = releases
        self._books, self._say = books, say
        self._reloads = 0

    async def apply(
        self, act: Act, service: Service, reload: Callable[[config.Config], None]
    ) -> None:
        """Do it, and note what came of it: `reload` gives the mirror another config, as a SIGHUP does."""
        what = f"{act.what} {act.version or act.track}"
        try:
            came = await self._do(act, service, reload)
        except (OSError, CacheError, BadOverride, BadBundle, NothingToFetch) as error:
            came = f"refused: {type(error).__name__}"
        self._say(f"{what}: {came}")

    async def _do(self, act: Act, service: Service, reload: Callable[[config.Config], None]) -> str:
        match act.what:
            case "hold" | "pin" | "release":
                return await self._rule(act, service)
            case "reload":
                changed = RELOADED[self._reloads % len(RELOADED)]
                self._reloads += 1
                upstream = service.config.upstream.model_copy(update=changed)
                reload(service.config.model_copy(update={"upstream": upstream}))
                return str(changed)
            case "remove":
                removed = await service.cache.remove(self._key(act))
                return "removed" if removed else "not there"
            case "gc":
                swept = await service.cache.gc(dry_run=False)
                return f"{len(swept.removed)} removed"
            case "verify":
                found = [result async for result in service.verifier.verify_all(None)]
                return f"{len(found)} read again"
            case "import":
                return await self._carry(act, service)
            case _:
                assert_never(act.what)

    async def _rule(self, act: Act, service: Service) -> str:
        rule = f"pin {act.version}" if act.what == "pin" else act.what
        ruled = Ruled(act.track, rule, asyncio.get_running_loop().time())
        self._books.ruled.append(ruled)
        try:
            if act.what == "release":
                found = await service.overrides.remove(act.track)
                came = "given back" if found else "was not overridden"
            else:
                given = config.Pin(act.version) if act.what == "pin" else config.Hold()
                await service.overrides.put(act.track, given)
                came = "in force"
        except BadOverride:
            ruled.refused = True
            raise
        ruled.answered = asyncio.get_running_loop().time()
        return came

    async def _carry(self, act: Act, service: Service) -> str:
        """Export what a track leads to, remove its payload, and take the bundle in."""
        exporter = service.exporter
        bundle = await exporter.bundle(ExportRequest(act.track, BOARD))
        carried = [chunk async for chunk in exporter.stream(bundle)]
        for member in bundle.members:
            await service.cache.remove(member.sha256.raw.hex())
        taken = await service.importer.import_bundle(_again(carried))
        return f"{', '.join(taken.versions)} taken in again, {taken.added} bytes of it new"

    def _key(self, act: Act) -> str:
        [payload] = [r.payload for r in self._releases if r.version == act.version]
        return hashlib.sha256(payload).hexdigest()


async def _again(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
