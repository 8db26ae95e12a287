"""The Omaha protocol as update_engine speaks it: both sides, without I/O.

A machine asks and is offered a release:

>>> from omaha_mirror.omaha import *
>>> machine = Machine(version="3815.2.0", machineid="0123456789abcdef0123456789abcdef")
>>> client = Client(machine)
>>> question = serialise_request(client.check())

The server reads the question and writes an answer:

>>> app = parse_request(question).apps[0]
>>> app.app_id, app.track, app.update_check is not None
('e96281a6-d1af-4bde-9a0a-97b76e56dc57', 'stable', True)
>>> Version.parse(app.version) < Version.parse("3815.2.1")
True
>>> payload = Package(
...     name="update.gz", size=4, required=True, hash=Digest("sha1", bytes(20))
... )
>>> action = Action(event="postinstall", sha256=Digest("sha256", bytes(32)))
>>> offered = UpdateCheck(
...     status=UpdateStatus.OK,
...     urls=(Url(codebase="https://upstream.example/3815.2.1/"),),
...     manifests=(Manifest(version="3815.2.1", packages=(payload,), actions=(action,)),),
... )
>>> answer = Response(
...     server="mirror",
...     apps=(AppResponse(appid=app.app_id, status=AppStatus.OK, update_check=offered),),
... )
>>> answer = localise(answer, lambda app, manifest: "http://mirror:8000/packages/3815.2.1/")

The machine takes it, and reports:

>>> offer = client.receive(200, serialise_response(answer))
>>> offer.version, offer.urls, offer.action.disable_payload_backoff
('3815.2.1', ('http://mirror:8000/packages/3815.2.1/update.gz',), True)
>>> event = client.failed(ErrorCode.PAYLOAD_SIZE_MISMATCH_ERROR).apps[0].events[0]
>>> describe_event(event.eventtype, event.eventresult, event.errorcode)
'update failed: the payload has another size than announced (error 11)'
"""

from omaha_mirror.omaha.answer import NoUpdate, Offer, check_for_sysexts, read_answer
from omaha_mirror.omaha.codebase import codebase_problem, localise
from omaha_mirror.omaha.codes import (
    AppStatus,
    ErrorCode,
    ErrorFlag,
    ErrorInfo,
    EventResult,
    EventType,
    UpdateStatus,
    describe_error,
    describe_event,
)
from omaha_mirror.omaha.errors import (
    BadDigest,
    BadResponse,
    BadValue,
    BadVersion,
    MalformedXML,
    OmahaError,
    TooLarge,
    UnexpectedXML,
    UnsupportedEncoding,
    UnsupportedProtocol,
)
from omaha_mirror.omaha.machine import FLATCAR_APP_ID, Client, Machine
from omaha_mirror.omaha.messages import (
    AT_ONCE,
    parse_request,
    parse_response,
    parse_stored_response,
    serialise_request,
    serialise_response,
)
from omaha_mirror.omaha.protocol import (
    Action,
    AppRequest,
    AppResponse,
    DayStart,
    EventRequest,
    EventResponse,
    Manifest,
    Os,
    Package,
    PingRequest,
    PingResponse,
    Request,
    Response,
    UpdateCheck,
    UpdateCheckRequest,
    Url,
    normalise_app_id,
)
from omaha_mirror.omaha.values import Digest, Version
from omaha_mirror.omaha.xml import Element, Limits

__all__ = [
    "AT_ONCE",
    "FLATCAR_APP_ID",
    "Action",
    "AppRequest",
    "AppResponse",
    "AppStatus",
    "BadDigest",
    "BadResponse",
    "BadValue",
    "BadVersion",
    "Client",
    "DayStart",
    "Digest",
    "Element",
    "ErrorCode",
    "ErrorFlag",
    "ErrorInfo",
    "EventRequest",
    "EventResponse",
    "EventResult",
    "EventType",
    "Limits",
    "Machine",
    "MalformedXML",
    "Manifest",
    "NoUpdate",
    "Offer",
    "OmahaError",
    "Os",
    "Package",
    "PingRequest",
    "PingResponse",
    "Request",
    "Response",
    "TooLarge",
    "UnexpectedXML",
    "UnsupportedEncoding",
    "UnsupportedProtocol",
    "UpdateCheck",
    "UpdateCheckRequest",
    "UpdateStatus",
    "Url",
    "Version",
    "check_for_sysexts",
    "codebase_problem",
    "describe_error",
    "describe_event",
    "localise",
    "normalise_app_id",
    "parse_request",
    "parse_response",
    "parse_stored_response",
    "read_answer",
    "serialise_request",
    "serialise_response",
]
