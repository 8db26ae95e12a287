"""Asks an Omaha server, as a machine would.

What is no answer of protocol 3 is refused here; what an answer means is for others to read.
"""

from uuid import UUID

from omaha_mirror import __version__
from omaha_mirror.aio.workers import WORK
from omaha_mirror.omaha import (
    AT_ONCE,
    AppRequest,
    OmahaError,
    Os,
    Request,
    Response,
    UpdateCheckRequest,
    parse_response,
    serialise_request,
)
from omaha_mirror.upstream.errors import BadAnswer
from omaha_mirror.upstream.fetcher import Fetcher

ANSWER_LIMIT = 1 << 20
"""Bytes; a server with a hundred steps and packages says all of it in a tenth."""
DEADLINE = 20.0
"""Seconds, connecting and redirects included."""

_CLIENT = f"omaha-mirror-{__version__}"


class OmahaServer:
    """Posts requests to one address.

    Attributes:
        url: Of the server, such as `https://update.example/v1/update/`.
    """

    def __init__(self, fetcher: Fetcher, url: str) -> None:
        self.url = url
        self._fetcher = fetcher

    async def ask(self, request: Request) -> Response:
        """The server's answer, whatever it says.

        Raises:
            UpstreamError: It could not be had, or is none (`BadAnswer`).
        """
        body = await self.deliver(serialise_request(request))
        try:
            if len(body) <= AT_ONCE:
                return parse_response(body)
            return await WORK.call(parse_response, body)
        except OmahaError as error:
            raise BadAnswer(f"this is no answer of an Omaha server: {error}", self.url) from error

    async def deliver(self, body: bytes) -> bytes:
        """Post a request, such as events: update_engine looks at no answer to those (omaha_request_action.cc:624).

        Raises:
            UpstreamError: The server did not take it.
        """
        return await self._fetcher.post(self.url, body, limit=ANSWER_LIMIT, deadline=DEADLINE)


def question(machine_id: str, app_id: str, board: str, track: str, version: str) -> Request:
    """What the mirror asks for itself: the update check of update_engine, without ping and events.

    None of what those say has happened, and none is needed. Nebraska learns the version from the check, and closes
    what it granted when the granted version asks (api/updates.go:98-140); event 3/2 would make it forget the grant
    instead, and grant anew (api/events.go:111-124).

    The machine id goes out as `{8-4-4-4-12}`. Nebraska leaves instances of that form, such as its own syncers, out
    of all limits and figures (IgnoreFakeInstanceCondition), so the mirror takes nobody's turn, and a rollout in safe
    mode does not take it for the first machine. The client's name is not the syncer's, to which Nebraska shows
    nothing behind a floor (omaha/omaha.go:95-105, 196-202).

    Args:
        machine_id: 32 hexadecimal digits, the same from question to question.
        app_id: In lower case, without braces.
        board: Such as `amd64-usr`.
        track: Such as `stable`.
        version: That the mirror claims to run; `0.0.0` is below all.

    Raises:
        ValueError: The machine id is of another form.
    """
    architecture = "aarch64" if board.startswith("arm64") else "x86_64"
    app = AppRequest(
        appid=f"{{{app_id}}}",
        version=version,
        track=track,
        machineid=f"{{{UUID(machine_id)}}}",
        lang="en-US",
        board=board,
        delta_okay=False,
        update_check=UpdateCheckRequest(),
    )
    return Request(
        version=_CLIENT,
        updaterversion=_CLIENT,
        installsource="scheduler",
        ismachine=1,
        os=Os(version="Chateau", platform="CoreOS", sp=f"{version}_{architecture}"),
        apps=(app,),
    )
