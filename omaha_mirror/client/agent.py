"""A machine that checks, downloads, verifies and reports over the network, in update_engine's order."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from omaha_mirror.client.connections import AnswerTooLong, ConnectionFailed, post
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


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer to a check.

    Attributes:
        outcome: as update_engine reads it.
        app_status: the server's status of the application; update_engine ignores it.
    """

    outcome: Offer | NoUpdate
    app_status: str


class Agent:
    """One machine.

    Args:
        machine: the one that checks.
        server: the SERVER of update.conf.
        session: see `connections`.
        watch: called as downloads go on.
        pause: seconds before a download that was cut is resumed.

    Attributes:
        downloads: the packages that were downloaded and verified.
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
            UpdateFailed: no answer came, or one that they would refuse.
        """
        status, body = await self._post(self._client.check())
        try:
            outcome = self._client.receive(status, body)
        except BadResponse as error:
            code = error.errorcode or ErrorCode.OMAHA_RESPONSE_INVALID
            raise UpdateFailed(f"{self._server}: {error.message}", code) from error
        return Answer(outcome, parse_response(body).apps[0].status)

    async def update(self, offer: Offer, directory: Path) -> None:
        """Download and verify the packages that the machine needs, and send the events of each step.

        The payload comes first. The packages of the machine's OEM and of system extensions are fetched by the
        postinstall step, between the events "downloaded" and "applied" (update_attempter.cc:241, flatcar-postinst:150).

        Raises:
            UpdateFailed: where the machine would fail; the event of the failure was sent.
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
        """Send an event; update_engine ignores the answer (omaha_request_action.cc:624)."""
        with suppress(UpdateFailed):
            await self._post(event)

    async def _post(self, request: Request) -> tuple[int, bytes]:
        try:
            return await post(self._session, self._server, serialise_request(request))
        except AnswerTooLong as error:
            words = f"{self._server}: {error}: is it an update server?"
            raise UpdateFailed(words, ErrorCode.OMAHA_REQUEST_XML_PARSE_ERROR) from error
        except ConnectionFailed as error:
            raise Unreachable(
                f"no answer from {self._server}: {error}; is it the address of a mirror,"
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


def _digests(*announced: Digest | None) -> tuple[Digest, ...]:
    return tuple(dict.fromkeys(digest for digest in announced if digest is not None))
