"""A machine without I/O: makes its requests, and reads the responses.

It has the states of CoreUpdate and Nebraska. A machine that has applied an update is held: until it reboots it sends only
pings. After the reboot its next check has a ping, the updatecheck, and event 3/2 with the version it came from; or, when it still runs the old
version, the rollback error (update_engine omaha_request_action.cc:83-140).
"""

from dataclasses import dataclass, replace

from omaha_mirror.omaha.answer import NoUpdate, Offer, check_for_sysexts, read_answer
from omaha_mirror.omaha.codes import HTTP_BASE, ErrorCode, ErrorFlag, EventResult, EventType
from omaha_mirror.omaha.errors import BadResponse, MalformedXML, OmahaError
from omaha_mirror.omaha.messages import parse_response
from omaha_mirror.omaha.protocol import (
    AppRequest,
    EventRequest,
    Os,
    PingRequest,
    Request,
    Response,
    UpdateCheckRequest,
)

FLATCAR_APP_ID = "e96281a6-d1af-4bde-9a0a-97b76e56dc57"
_NEVER_UPDATED = "0.0.0.0"  # noqa: S104 - a version


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The attributes of a machine's requests; the defaults are those of a Flatcar machine on amd64.

    Attributes:
        version: The installed one.
        machineid: 32 hexadecimal digits that stay the same for the life of the machine.
        bootid: A UUID, new with each boot.
        updater: Name and version of the client program.
    """

    version: str
    machineid: str
    bootid: str = ""
    appid: str = FLATCAR_APP_ID
    track: str = "stable"
    board: str = "amd64-usr"
    oem: str = ""
    oemversion: str = ""
    alephversion: str = ""
    machinealias: str = ""
    updater: str = "update_engine-0.4.10"


class Client:
    """One machine's conversation with its update server.

    Attributes:
        machine: Its attributes.
        held: Whether an update is applied and the reboot has not happened.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.held = False
        self._news = _rebooted_from(_NEVER_UPDATED)

    def check(self) -> Request:
        """Ping, updatecheck, and the event since the last check, which is sent once."""
        news, self._news = self._news, _rebooted_from("")
        return self._request(
            ping=PingRequest(active=1), update_check=UpdateCheckRequest(), events=(news,)
        )

    def ping(self) -> Request:
        """A ping alone."""
        return self._request(ping=PingRequest(active=1))

    def download_started(self) -> Request:
        """Event 13/1."""
        return self._report(EventType.UPDATE_DOWNLOAD_STARTED, EventResult.SUCCESS)

    def download_finished(self) -> Request:
        """Event 14/1: downloaded and verified."""
        return self._report(EventType.UPDATE_DOWNLOAD_FINISHED, EventResult.SUCCESS)

    def update_applied(self) -> Request:
        """Event 3/1; from now on the machine is held."""
        self.held = True
        return self._report(EventType.UPDATE_COMPLETE, EventResult.SUCCESS)

    def failed(self, code: int, flags: ErrorFlag = ErrorFlag.TEST_OMAHA_URL) -> Request:
        """Event 3/0; every machine that uses a mirror sets the default flag."""
        return self._report(EventType.UPDATE_COMPLETE, EventResult.ERROR, int(code) | int(flags))

    def rebooted(self, version: str, bootid: str = "") -> None:
        """After a reboot into `version`: a rollback if it is the old one."""
        old = self.machine.version
        if self.held and version == old:
            self._news = _event(
                EventType.UPDATE_COMPLETE, EventResult.ERROR, errorcode=ErrorCode.ROLLBACK
            )
        elif version != old:
            self._news = _rebooted_from(old)
        self.machine = replace(self.machine, version=version, bootid=bootid)
        self.held = False

    def receive(self, status: int, body: bytes) -> Offer | NoUpdate:
        """Read the response to a check as strictly as update_engine and ue-rs together.

        Args:
            status: Of HTTP; 0 without a response.
            body: Of the response.

        Raises:
            BadResponse: With the errorcode for `failed`, where update_engine would report one.
        """
        response = _read_response(status, body)
        answer = read_answer(response)
        if isinstance(answer, Offer):
            check_for_sysexts(response)
        return answer

    def _report(
        self, eventtype: EventType, eventresult: EventResult, errorcode: int | None = None
    ) -> Request:
        return self._request(events=(_event(eventtype, eventresult, errorcode=errorcode),))

    def _request(
        self,
        ping: PingRequest | None = None,
        update_check: UpdateCheckRequest | None = None,
        events: tuple[EventRequest, ...] = (),
    ) -> Request:
        machine = self.machine
        architecture = "aarch64" if machine.board.startswith("arm64") else "x86_64"
        app = AppRequest(
            appid="{" + machine.appid + "}",
            version=machine.version,
            track=machine.track,
            bootid=machine.bootid,
            oem=machine.oem,
            oemversion=machine.oemversion,
            alephversion=machine.alephversion,
            machineid=machine.machineid,
            machinealias=machine.machinealias,
            lang="en-US",
            board=machine.board,
            delta_okay=False,
            ping=ping,
            update_check=update_check,
            events=events,
        )
        return Request(
            version=machine.updater,
            updaterversion=machine.updater,
            installsource="scheduler",
            ismachine=1,
            os=Os(version="Chateau", platform="CoreOS", sp=f"{machine.version}_{architecture}"),
            apps=(app,),
        )


def _read_response(status: int, body: bytes) -> Response:
    if not 200 <= status < 300:
        reply = f"the update server answered HTTP {status}" if status else "no answer came"
        raise BadResponse(reply, HTTP_BASE + status)
    if not body:
        raise BadResponse("the answer was empty", ErrorCode.OMAHA_REQUEST_EMPTY_RESPONSE_ERROR)
    try:
        return parse_response(body)
    except MalformedXML as error:
        raise BadResponse(error.message, ErrorCode.OMAHA_REQUEST_XML_PARSE_ERROR) from error
    except OmahaError as error:
        raise BadResponse(error.message, ErrorCode.OMAHA_RESPONSE_INVALID) from error


def _rebooted_from(version: str) -> EventRequest:
    return _event(EventType.UPDATE_COMPLETE, EventResult.SUCCESS_REBOOT, previousversion=version)


def _event(
    eventtype: EventType,
    eventresult: EventResult,
    *,
    errorcode: int | None = None,
    previousversion: str | None = None,
) -> EventRequest:
    return EventRequest(
        eventtype=eventtype,
        eventresult=eventresult,
        errorcode=errorcode,
        previousversion=previousversion,
    )
