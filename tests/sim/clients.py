"""Machines of a run. Each goes by its real program's rules, holds every byte against the right one, and tells the books."""

import asyncio
import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import NoReturn

from omaha_mirror.config import Address
from omaha_mirror.omaha import (
    BadResponse,
    Client,
    Digest,
    ErrorCode,
    ErrorFlag,
    Machine,
    NoUpdate,
    Offer,
    Package,
    Request,
    serialise_request,
)
from tests.sim.books import NEVER, Books, Check, Ended, Invariant, Told, Transfer
from tests.sim.http import Dialer, ask
from tests.sim.policy import Policy
from tests.sim.releases import Release
from tests.sim.schedule import OMAHA, MachinePlan
from tests.support import update_engine
from tests.support.mirror import PAYLOAD
from tests.support.update_engine import Aborted, Failed, UpdateEngine

POLL = 45 * 60.0
FUZZ = 5 * 60.0
LONGEST_POLL = 4 * 3600.0
"""update_engine's schedule of checks (update_check_scheduler.cc:16, :63)."""
SLOWER = (500, 503)
"""Statuses that double it."""
BOOT = 40.0
TRIES = 20
"""ue-rs, src/util.rs:27."""
TOO_OLD = 600.0
"""Seconds after which somebody with curl begins a cut download anew: the mirror speaks for resumed ones for 15 minutes."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a machine is given.

    Attributes:
        mirror: its address.
        releases: the right bytes.
        bare: the release of which upstream tells no digest.
        books: told of everything.
        policy: says whether it can expect an update at all.
        say: adds a line to the story.
        quiet: when the last trouble is over.
        forgets: whether the disk may have refused what was to outlast a crash.
    """

    mirror: Address
    releases: Sequence[Release]
    bare: Release
    books: Books
    policy: Policy
    say: Callable[[str], None]
    quiet: float
    forgets: bool


class Actor(ABC):
    """What all machines do: they check, and tell what happens to them."""

    def __init__(self, plan: MachinePlan, around: Surroundings) -> None:
        self.who = f"machine {plan.number}"
        self.plan, self._around = plan, around
        self._rng = Random(plan.seed)
        self._dialer = Dialer(self.who, around.mirror, around.books)
        machine = Machine(
            version=plan.version,
            machineid=f"{plan.number:032x}",
            bootid=self._bootid(),
            track=plan.track,
            oem=plan.oem,
        )
        self._client = Client(machine)
        self._status = 0

    async def run(self) -> None:
        """From its first check until it has what it wants, or policy says that it will not get it."""
        await _until(self.plan.at)
        for stop in (*self.plan.stops, None):
            try:
                async with asyncio.timeout_at(stop) as limit:
                    await self._work()
                return
            except TimeoutError:
                if not limit.expired():
                    raise
                self._say("is restarted")
                await asyncio.sleep(BOOT)
                self._client.rebooted(self._client.machine.version, self._bootid())

    @abstractmethod
    async def _work(self) -> None:
        """Work until the end."""

    def _say(self, words: str) -> None:
        self._around.say(words)

    def _end(self, word: str, wrong: str = "") -> None:
        self._say(f"ends: {word}{f', {wrong}' if wrong else ''}")
        self._around.books.ended.append(Ended(self.who, _now(), word, wrong))

    def _fail(self, words: str) -> NoReturn:
        self._around.books.failures.append(words)
        self._say(words)
        raise Broken(words)

    def _wrong(self, path: str) -> NoReturn:
        self._fail(f"{Invariant.WHOLE}: {self.who} completes {path} with wrong bytes")

    def _bootid(self) -> str:
        return f"{self._rng.getrandbits(64):032x}"

    async def _check(self) -> Offer | None:
        """Ask for an update."""
        machine, asked = self._client.machine, _now()
        request = self._client.check()
        answer = await self._post(request)
        self._status = answer
        try:
            outcome = self._client.receive(answer, self._body)
        except BadResponse as error:
            self._say(f"checks as {machine.version}: {error.message}")
            await self._report(self._client.failed(error.errorcode or 0))
            return None
        offer = outcome if isinstance(outcome, Offer) else None
        codebase = _path(offer.codebases[0]) if offer else ""
        words = f"is offered {offer.version} at {codebase}" if offer else "is told noupdate"
        self._say(f"checks as {machine.version} on {machine.track}: {words}")
        version = offer.version if offer else None
        check = Check(self.who, machine.track, machine.version, asked, _now(), version, codebase)
        self._around.books.checks.append(check)
        if isinstance(outcome, NoUpdate):
            self._poll = outcome.poll_interval
        return offer

    async def _post(self, request: Request) -> int:
        told = self._tell(request)
        answer = await ask(self._dialer.address, "POST", OMAHA, serialise_request(request))
        self._body = answer.body
        if answer.status == 200:
            for one in told:
                one.answered = _now()
        return answer.status

    _body = b""
    _poll: int | None = None

    def _tell(self, request: Request) -> list[Told]:
        """Note the events of a request."""
        [app] = request.apps
        told = [
            Told(
                self.who,
                app.machineid,
                app.track,
                (event.eventtype or 0, event.eventresult or 0, event.errorcode or 0),
                _now(),
                NEVER,
            )
            for event in app.events
            if event.previousversion != ""
        ]
        self._around.books.told += told
        return told

    async def _report(self, request: Request) -> None:
        """Send an event; update_engine ignores the answer (omaha_request_action.cc:624)."""
        if (status := await self._post(request)) != 200:
            self._say(f"reports an event: {status or 'no answer'}")

    def _is_over(self) -> bool:
        """Whether policy gives it nothing for good, so that it need not ask again."""
        track, now = self._client.machine.track, _now()
        if now < self._around.quiet:
            return False
        has, mirror = self._client.machine.version, self.plan.mirror
        return not self._around.policy.leads_on(track, has, now, mirror)

    def _bytes(self, version: str, name: str, digest: Digest | None) -> bytes:
        """Of a package that is offered; of the release without a digest, either generation may be, as a whole."""
        known = [r for r in self._around.releases if r.version == version and name in r.files]
        bare = self._around.bare
        found = [r.files[name] for r in known]
        if version == bare.version and name == PAYLOAD:
            found = [bare.payload, bare.forged, bare.longer]
        told = digest.raw if digest is not None and digest.algorithm == "sha256" else None
        right = [b for b in found if told in (None, hashlib.sha256(b).digest())]
        if not right:
            self._fail(f"{Invariant.OFFER}: {self.who}, {name} of {version}")
        return right[0]


class Broken(Exception):
    """An invariant does not hold, and the machine need not go on."""


class UpdateEngineMachine(Actor):
    """update_engine, then ue-rs for the packages of its OEM, then a reboot.

    Attributes of one download in parts: what it has of which payload, up to a checkpoint.
    """

    def __init__(self, plan: MachinePlan, around: Surroundings) -> None:
        super().__init__(plan, around)
        self._kept, self._kept_of = b"", ""
        self._resumes = 0
        self._transfer: update_engine.Transfer | None = None
        self._interval = POLL

    async def _work(self) -> None:
        target = None
        while True:
            offer = await self._check()
            if target is not None and self._status == 200:
                self._end("done")
                return
            if offer is not None:
                target = await self._update(offer)
            elif self._is_over():
                self._end("held")
                return
            if target is not None:
                self._say(f"reboots into {target}")
                await asyncio.sleep(BOOT)
                self._client.rebooted(target, self._bootid())
                continue
            await self._wait()

    async def _wait(self) -> None:
        slower = self._status in SLOWER
        self._interval = min(2 * self._interval, LONGEST_POLL) if slower else POLL
        if self._poll is not None and not slower:
            self._interval = min(max(float(self._poll), POLL), LONGEST_POLL)
        await asyncio.sleep(self._interval + self._rng.uniform(-FUZZ, FUZZ))

    async def _update(self, offer: Offer) -> str | None:
        """Download and install an offer; the version it gives, None where that failed."""
        await self._report(self._client.download_started())
        try:
            await self._payload(offer)
            await self._report(self._client.download_finished())
            for package in offer.packages[1:]:
                if package.name == f"oem-{self._client.machine.oem}.gz":
                    await self._extension(offer, package)
        except Failed as failed:
            self._say(str(failed))
            flags = ErrorFlag.TEST_OMAHA_URL | (ErrorFlag.RESUMED if self._resumes else 0)
            await self._report(self._client.failed(failed.code, ErrorFlag(flags)))
            if failed.code != ErrorCode.DOWNLOAD_TRANSFER_ERROR:
                self._kept, self._resumes = b"", 0
            return None
        self._kept = b""
        await self._report(self._client.update_applied())
        return offer.version

    async def _payload(self, offer: Offer) -> None:
        """Raises Failed."""
        right = self._bytes(offer.version, PAYLOAD, offer.sha256)
        digest = offer.sha256.raw.hex()
        path = _path(offer.urls[0])
        engine = UpdateEngine(
            lambda: self._dialer.dial(path, right), path, offer.size, 1.0, 1.0, self._watch
        )
        if self._kept_of != digest or self._resumes > 10:
            self._kept, self._kept_of, self._resumes = b"", digest, 0
        kept = self._kept
        before = len(kept)
        try:
            if kept:
                self._resumes += 1
                metadata = await engine.metadata(_metadata_size(right))
                if metadata != right[: len(metadata)]:
                    self._fail(f"{Invariant.RANGE}: {self.who} resumes with a wrong manifest")
                kept += await engine.rest(before)
            else:
                kept = await engine.first()
        except Aborted:
            self._fail(f"{Invariant.ABORT}: {self.who} gets more than it lacks of the metadata")
        except (Failed, asyncio.CancelledError):
            self._checkpoint(offer, right)
            raise
        if hashlib.sha256(kept).hexdigest() != digest:
            if kept[before:] != right[before:]:
                self._wrong(path)
            raise Failed(10, "what came before the restart was wrong")

    def _watch(self, transfer: update_engine.Transfer) -> None:
        self._transfer = transfer
        if len(transfer.ranges) > 1:
            self._say(f"was cut, try {len(transfer.ranges)}: {transfer.range or 'from 0'}")

    def _checkpoint(self, offer: Offer, right: bytes) -> None:
        """Keep the whole operations of what came; raises Failed where one of them is wrong."""
        transfer = self._transfer
        if transfer is None or transfer.length is not None:
            return
        held = self._kept[: transfer.offset] + bytes(transfer.got)
        known = (*self._around.releases, self._around.bare)
        [release] = [r for r in known if r.version == offer.version]
        whole = max((mark for mark in release.marks[1:-1] if mark <= len(held)), default=0)
        if whole > release.marks[1]:
            self._kept = held[:whole]
        if held != right[: len(held)]:
            self._say("holds wrong bytes")

    async def _extension(self, offer: Offer, package: Package) -> None:
        """ue-rs: the whole file, from its first byte at each try. Raises Failed."""
        right = self._bytes(offer.version, package.name, package.hash_sha256)
        path = _path(offer.url_of(package))
        for attempt in range(1 + TRIES):
            if attempt:
                await asyncio.sleep(1.0)
            got = bytearray()
            transfer, _ = await self._dialer.get(path, right, {}, got.extend)
            if transfer.is_whole:
                if bytes(got) == right:
                    return
                self._wrong(path)
            self._say(f"{package.name}: {_word(transfer)}, try {attempt + 1}")
        raise Failed(ErrorCode.POSTINSTALL_RUNNER_ERROR, f"{package.name} cannot be had")


class Forgotten(Exception):
    """The mirror does not know any more what it offered."""


class Curl(Actor):
    """Somebody who downloads what is offered with curl, and goes on with what there is after each cut."""

    async def _work(self) -> None:
        while True:
            try:
                await self._all()
                return
            except Forgotten:
                self._say("asks for an offer again")

    def _look(self, transfer: Transfer) -> None:
        """A mirror that could not write down what it offers may forget it in a crash; another one must not."""
        if transfer.status == 404 and self._around.forgets:
            raise Forgotten

    async def _all(self) -> None:
        while (offer := await self._check()) is None:
            if self._is_over():
                self._end("held")
                return
            await asyncio.sleep(300.0)
        for package in offer.packages:
            digest = offer.sha256 if package is offer.packages[0] else package.hash_sha256
            right = self._bytes(offer.version, package.name, digest)
            await self._download(_path(offer.url_of(package)), right)
        self._end("done")

    async def _download(self, path: str, right: bytes) -> None:
        got, since, etag = bytearray(), _now(), ""
        with_etag = self._rng.random() < 0.3
        while True:
            held = len(got)
            headers = {"Range": f"bytes={held}-"} if held else {}
            if held and with_etag and etag:
                headers["If-Range"] = etag
            answer: bytearray = bytearray()
            transfer, fields = await self._dialer.get(path, right, headers, answer.extend)
            self._say(f"curl {path} from {held}: {_word(transfer)}")
            self._look(transfer)
            if transfer.status == 200:
                got = answer
            elif transfer.status == 206:
                got += answer
            if transfer.is_whole:
                if got == right:
                    return
                self._wrong(path)
            etag = fields.get("etag", etag)
            if transfer.status not in (0, 200, 206) or _now() - since > TOO_OLD:
                await asyncio.sleep(60.0)
                got, since = bytearray(), _now()
            else:
                await asyncio.sleep(self._rng.choice((1.0, 5.0, 20.0)))


class Ranges(Curl):
    """Asks for ranges of all kinds, one after the other, each until it has it."""

    async def _download(self, path: str, right: bytes) -> None:
        for first, last in self._ranges(len(right), _metadata_size(right)):
            await self._range(path, right, first, last)
        if right.startswith(b"CrAU"):
            await self._lacking(path, right)

    async def _lacking(self, path: str, right: bytes) -> None:
        """The metadata as update_engine asks for it after a cut in it: more than it lacks aborts it."""
        size = _metadata_size(right)
        engine = UpdateEngine(lambda: self._dialer.dial(path, right), path, len(right), 1.0, 1.0)
        while True:
            held = update_engine.Transfer(0, size, bytearray(right[: self._rng.randrange(1, size)]))
            try:
                got = await engine.transfer(held)
            except Failed as failed:
                self._say(f"asks {path} for {held.range}: {failed}")
                await asyncio.sleep(60.0)
                continue
            except Aborted:
                self._fail(f"{Invariant.ABORT}: {self.who} gets more than it lacks of the metadata")
            if got != right[:size]:
                self._fail(f"{Invariant.RANGE}: {self.who} gets the rest of a wrong manifest")
            return

    def _ranges(self, size: int, metadata: int) -> list[tuple[int, int | None]]:
        """First and last byte of each; None: up to the end."""
        rng = self._rng
        somewhere = rng.randrange(size)
        kinds: Mapping[str, tuple[int, int | None]] = {
            "metadata": (0, max(0, min(metadata, size) - 1)),
            "cut metadata": (max(1, metadata // 2), max(1, metadata // 2) + metadata - 1),
            "tail": (somewhere, None),
            "far": (size * 4 // 5, None),
            "middle": (somewhere // 2, somewhere),
            "one byte": (somewhere, somewhere),
            "last byte": (size - 1, size - 1),
            "all": (0, None),
        }
        chosen = rng.sample(sorted(kinds), rng.randint(1, 3))
        return [kinds[kind] for kind in chosen]

    async def _range(self, path: str, right: bytes, first: int, last: int | None) -> None:
        asked = f"bytes={first}-{'' if last is None else last}"
        stop = len(right) if last is None else min(last + 1, len(right))
        while True:
            got = bytearray()
            transfer, _ = await self._dialer.get(path, right, {"Range": asked}, got.extend)
            self._say(f"asks {path} for {asked}: {_word(transfer)}")
            self._look(transfer)
            if transfer.status not in (0, 206, 416, 502, 504, 404):
                self._fail(
                    f"{Invariant.AS_ASKED}: {self.who} asks for {asked} and gets {transfer.status}"
                )
            if (
                transfer.status == 206
                and transfer.entity != f"bytes {first}-{stop - 1}/{len(right)}"
            ):
                self._fail(
                    f"{Invariant.AS_ASKED}: {self.who} asks for {asked} and gets {transfer.entity}"
                )
            if transfer.status == 206 and transfer.is_whole:
                if got == right[first:stop]:
                    return
                self._fail(f"{Invariant.RANGE}: {self.who} gets {asked} of {path} wrong")
            await asyncio.sleep(self._rng.choice((1.0, 20.0, 120.0)))


KINDS: Mapping[str, type[Actor]] = {
    "update_engine": UpdateEngineMachine,
    "curl": Curl,
    "ranges": Ranges,
}


def machine(plan: MachinePlan, around: Surroundings) -> Actor:
    """The machine of a plan."""
    return KINDS[plan.kind](plan, around)


def _metadata_size(payload: bytes) -> int:
    """Of header and manifest; of a file that is no payload, some number."""
    return 20 + int.from_bytes(payload[12:20], "big") if payload[:4] == b"CrAU" else 100


def _word(transfer: Transfer) -> str:
    if transfer.status == 0:
        return "no answer"
    if transfer.is_whole:
        return f"{transfer.status}, all {transfer.got} bytes"
    if transfer.status in (200, 206):
        return f"{transfer.status}, cut after {transfer.got} of {transfer.announced} bytes"
    return f"status {transfer.status}"


def _path(url: str) -> str:
    return re.sub(r"^http://[^/]+", "", url)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _until(at: float) -> None:
    await asyncio.sleep(max(0.0, at - _now()))
