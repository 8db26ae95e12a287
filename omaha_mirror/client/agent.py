"""A machine on the network: it asks, downloads, proves and reports in update_engine's order."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from omaha_mirror.client.connections import SILENCE, ConnectionFailed, exchange, read
from omaha_mirror.client.download import (
    PAUSE,
    Downloaded,
    DownloadRequest,
    Unreachable,
    UpdateFailed,
    Watch,
    download,
)
from omaha_mirror.omaha import (
    BadResponse,
    Client,
    Digest,
    ErrorCode,
    Machine,
    NoUpdate,
    Offer,
    Request,
    parse_response,
    serialise_request,
)
from omaha_mirror.omaha.codes import HTTP_BASE

ANSWER_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server told a machine.

    Attributes:
        outcome: as update_engine reads it.
        app_status: what the server says about the application; update_engine does not look at it.
    """

    outcome: Offer | NoUpdate
    app_status: str


class Agent:
    """One machine.

    Args:
        machine: who asks.
        server: the SERVER of update.conf.
        session: see `connections`.
        watch: told of the downloads.
        pause: seconds before a download that was cut goes on.

    Attributes:
        downloads: the packages that are here and proven.
    """

    def __init__(
        self,
        machine: Machine,
        server: str,
        session: aiohttp.ClientSession,
        watch: Watch,
        pause: float = PAUSE,
    ) -> None:
        self.downloads: list[Downloaded] = []
        self._client = Client(machine)
        self._server = server
        self._session = session
        self._watch = watch
        self._pause = pause

    async def ask(self) -> Answer:
        """Ask for an update, and read the answer as strictly as update_engine and ue-rs together.

        Raises:
            BadValue: the machine has something that cannot be written as XML.
            UpdateFailed: there was no answer, or one that they would refuse.
        """
        status, body = await self._post(self._client.check())
        try:
            outcome = self._client.receive(status, body)
        except BadResponse as error:
            code = error.errorcode or ErrorCode.OMAHA_RESPONSE_INVALID
            raise UpdateFailed(f"{self._server}: {error.message}", code) from error
        return Answer(outcome, parse_response(body).apps[0].status)

    async def update(self, offer: Offer, directory: Path) -> None:
        """Download and prove what the machine would, and tell the server how it goes.

        The payload comes first. The packages of the machine's OEM and of system extensions are fetched by the
        postinstall step, between the events "downloaded" and "applied" (update_attempter.cc:241, flatcar-postinst:150).

        Raises:
            UpdateFailed: where the machine would fail; the server was told.
        """
        payload, *others = _wanted(offer, self._client.machine.oem)
        await self._report(self._client.download_started())
        try:
            await self._download(payload, directory)
            await self._report(self._client.download_finished())
            await self._postinstall(others, directory)
        except UpdateFailed as error:
            await self._report(self._client.failed(error.errorcode))
            raise
        await self._report(self._client.update_applied())

    async def _postinstall(self, others: list[DownloadRequest], directory: Path) -> None:
        try:
            for wanted in others:
                await self._download(wanted, directory)
        except UpdateFailed as error:
            code = ErrorCode.POSTINSTALL_RUNNER_ERROR
            raise type(error)(str(error), code) from error

    async def _download(self, wanted: DownloadRequest, directory: Path) -> None:
        downloaded = await download(self._session, wanted, directory, self._watch, self._pause)
        self.downloads.append(downloaded)
        self._watch.ended(downloaded)

    async def _report(self, event: Request) -> None:
        """Tell an event; what becomes of it does not matter to update_engine (omaha_request_action.cc:624)."""
        with suppress(UpdateFailed):
            await self._post(event)

    async def _post(self, request: Request) -> tuple[int, bytes]:
        body = serialise_request(request)
        headers = {"Content-Type": "text/xml"}
        answer = bytearray()
        try:
            async with (
                asyncio.timeout(SILENCE),
                exchange(
                    self._session, "POST", self._server, headers=headers, body=body
                ) as response,
            ):
                while chunk := await read(response):
                    answer += chunk
                    if len(answer) > ANSWER_LIMIT:
                        raise UpdateFailed(
                            f"{self._server} answers with more than {ANSWER_LIMIT} bytes: is it an"
                            " update server?",
                            ErrorCode.OMAHA_REQUEST_XML_PARSE_ERROR,
                        )
                return response.status, bytes(answer)
        except (ConnectionFailed, TimeoutError) as error:
            why = str(error) or f"nothing whole within {SILENCE:.0f} s"
            raise Unreachable(
                f"no answer from {self._server}: {why}; is it the address of a mirror,"
                " and does that run?",
                HTTP_BASE,
            ) from error


def _wanted(offer: Offer, oem: str) -> list[DownloadRequest]:
    """The payload, the package of the machine's OEM, and every system extension."""
    payload, *others = offer.packages
    return [
        DownloadRequest(
            payload.name,
            offer.urls[0],
            offer.size,
            _digests(offer.sha256, payload.hash, payload.hash_sha256),
            resumable=True,
        ),
        *(
            DownloadRequest(
                other.name,
                offer.url_of(other),
                other.size or 0,
                _digests(other.hash, other.hash_sha256),
                resumable=False,
            )
            for other in others
            if other.name == f"oem-{oem}.gz" or other.name.startswith("flatcar-")
        ),
    ]


def _digests(*told: Digest | None) -> tuple[Digest, ...]:
    return tuple(dict.fromkeys(digest for digest in told if digest is not None))
