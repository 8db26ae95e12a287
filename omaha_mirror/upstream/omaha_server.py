"""Posts requests to an Omaha server, and parses its responses; see `catalog.upstream_answer` for their meaning."""

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
"""Bytes; ten times the response of a server with a hundred steps and packages."""
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
        """The server's response.

        Raises:
            UpstreamError: There is none, or it is not one of protocol 3 (`BadAnswer`).
        """
        body = await self.deliver(serialise_request(request))
        try:
            if len(body) <= AT_ONCE:
                return parse_response(body)
            return await WORK.call(parse_response, body)
        except OmahaError as error:
            raise BadAnswer(f"not the response of an Omaha server: {error}", self.url) from error

    async def deliver(self, body: bytes) -> bytes:
        """Post a request such as events, whose response update_engine ignores (omaha_request_action.cc:624); gives the body.

        Raises:
            UpstreamError: The server did not accept it.
        """
        return await self._fetcher.post(self.url, body, limit=ANSWER_LIMIT, deadline=DEADLINE)


def question(machine_id: str, app_id: str, board: str, track: str, version: str) -> Request:
    """The mirror's own update check: update_engine's, without ping and events.

    Neither is needed. Nebraska learns the version from the check, and closes a grant when the granted version asks
    (api/updates.go:98-140); event 3/2 would make it forget the grant instead, and grant anew (api/events.go:111-124).

    The machine id goes out as `{8-4-4-4-12}`. Nebraska leaves instances of that form, such as its own syncers, out
    of all limits and figures (IgnoreFakeInstanceCondition), so the mirror delays no machine, and is not the first machine
    of a rollout in safe mode. The client's name is not the syncer's, to which Nebraska shows
    nothing behind a floor (omaha/omaha.go:95-105, 196-202).

    Args:
        machine_id: 32 hexadecimal digits, the same from question to question.
        app_id: In lower case, without braces.
        board: Such as `amd64-usr`.
        track: Such as `stable`.
        version: Of the asking machine; `0.0.0` is the lowest.

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
