"""The messages of Omaha protocol 3, as frozen values.

Fields have Omaha's own names, CamelCase ones in snake case. An attribute that was not sent is
`""` for a text and `None` for anything else. Every message keeps what its fields do not hold:
`extra` has the attributes that are unknown, empty or unreadable, as they were sent, and
`extra_elements` the elements that are unknown or came twice. Both are sent on, so an
attribute that is invented tomorrow passes today.
"""

from dataclasses import dataclass
from functools import lru_cache

from omaha_mirror.omaha.values import Digest
from omaha_mirror.omaha.xml import Attributes, Element

PROTOCOL = "3.0"
"""The version of the protocol that is spoken here."""


@lru_cache(1024)
def normalise_app_id(appid: str) -> str:
    """The id in lower case and without braces: machines send `{e962...}`, servers `e962...`."""
    return appid.strip().strip("{}").lower()


class _App:
    """An application in a message.

    Attributes:
        app_id: `appid` in lower case and without braces.
    """

    appid: str
    app_id: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "app_id", normalise_app_id(self.appid))


@dataclass(frozen=True, kw_only=True)
class Os:
    """`request/os`; `sp` of update_engine is `<version>_<uname -m>`."""

    version: str = ""
    platform: str = ""
    sp: str = ""
    arch: str = ""
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PingRequest:
    """`request/app/ping`: the machine lives; `a` and `r` are days since the last such report."""

    active: int | None = None
    a: int | None = None
    r: int | None = None
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UpdateCheckRequest:
    """`request/app/updatecheck`: the machine asks for an update."""

    targetversionprefix: str = ""
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EventRequest:
    """`request/app/event`: what happened at the machine (see `codes.describe_event`).

    Attributes:
        eventtype: One of `codes.EventType`, or any other number.
        eventresult: One of `codes.EventResult`, or any other number.
        errorcode: Of update_engine, with flag bits (see `codes.describe_error`).
        previousversion: `""` was sent and is not the same as `None`, which was not.
    """

    eventtype: int | None = None
    eventresult: int | None = None
    errorcode: int | None = None
    previousversion: str | None = None
    nextversion: str = ""
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AppRequest(_App):
    """`request/app`: one application of one machine.

    The attributes are those that update_engine sends (omaha_request_action.cc:164), those of
    Omaha that go-omaha knows, and `multi_manifest_ok`, with which a mirror asks for every step.
    """

    appid: str = ""
    version: str = ""
    track: str = ""
    from_track: str = ""
    bootid: str = ""
    oem: str = ""
    oemversion: str = ""
    alephversion: str = ""
    machineid: str = ""
    machinealias: str = ""
    lang: str = ""
    board: str = ""
    hardware_class: str = ""
    delta_okay: bool | None = None
    nextversion: str = ""
    client: str = ""
    installage: str = ""
    multi_manifest_ok: bool | None = None
    ping: PingRequest | None = None
    update_check: UpdateCheckRequest | None = None
    events: tuple[EventRequest, ...] = ()
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Request:
    """`request`: what a machine posts.

    Attributes:
        version: Of the client, such as `update_engine-0.4.10`.
        installsource: `scheduler`, or `ondemandupdate` when a person asked.
    """

    protocol: str = PROTOCOL
    version: str = ""
    updaterversion: str = ""
    installsource: str = ""
    ismachine: int | None = None
    requestid: str = ""
    sessionid: str = ""
    userid: str = ""
    testsource: str = ""
    os: Os | None = None
    apps: tuple[AppRequest, ...] = ()
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DayStart:
    """`response/daystart`: seconds since midnight at the server; update_engine ignores it."""

    elapsed_seconds: int | None = None
    elapsed_days: int | None = None
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PingResponse:
    """`response/app/ping`."""

    status: str = ""
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EventResponse:
    """`response/app/event`: one for each event of the request."""

    status: str = ""
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Url:
    """`urls/url`: where the packages lie; absolute, ends in `/`, has no query."""

    codebase: str = ""
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Package:
    """`packages/package`; the first of a manifest is the payload of the update.

    Attributes:
        name: A file name, relative to the codebase.
        size: Bytes.
        hash: SHA-1, sent as base64.
        hash_sha256: SHA-256, sent as hex.
        required: ue-rs refuses an answer where it is missing.
    """

    name: str = ""
    hash: Digest | None = None
    hash_sha256: Digest | None = None
    size: int | None = None
    required: bool | None = None
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Action:
    """`actions/action`; the one for `postinstall` rules the update.

    Attributes:
        event: `postinstall`, or `preinstall`, `install` or `update`.
        sha256: Of the first package, sent as base64.
        disable_payload_backoff: Without it one failure costs a machine a day.
    """

    event: str = ""
    sha256: Digest | None = None
    display_version: str = ""
    chrome_os_version: str = ""
    needsadmin: bool | None = None
    is_delta_payload: bool | None = None
    is_delta: bool | None = None
    disable_payload_backoff: bool | None = None
    max_failure_count_per_url: int | None = None
    metadata_signature_rsa: str = ""
    metadata_size: str = ""
    deadline: str = ""
    more_info: str = ""
    prompt: bool | None = None
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`updatecheck/manifest`: one release; the floor attributes are Nebraska's."""

    version: str = ""
    is_floor: bool | None = None
    floor_reason: str = ""
    is_target: bool | None = None
    packages: tuple[Package, ...] = ()
    actions: tuple[Action, ...] = ()
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UpdateCheck:
    """`response/app/updatecheck`: the answer to the question for an update.

    Attributes:
        status: One of `codes.UpdateStatus`; all but `ok` and `noupdate` are errors at a machine.
        poll_interval: Seconds to the next check; update_engine heeds 45 minutes to 4 hours.
        manifests: One, but for clients that said `multi_manifest_ok`.
    """

    status: str = ""
    poll_interval: int | None = None
    urls: tuple[Url, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()

    @property
    def manifest(self) -> Manifest | None:
        """The first manifest, the only one that a machine reads."""
        return self.manifests[0] if self.manifests else None


@dataclass(frozen=True, kw_only=True)
class AppResponse(_App):
    """`response/app`; `status` is one of `codes.AppStatus`, and update_engine ignores it."""

    appid: str = ""
    status: str = ""
    ping: PingResponse | None = None
    update_check: UpdateCheck | None = None
    events: tuple[EventResponse, ...] = ()
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Response:
    """`response`: what a server answers; one app for each app of the request, in its order."""

    protocol: str = PROTOCOL
    server: str = ""
    daystart: DayStart | None = None
    apps: tuple[AppResponse, ...] = ()
    extra: Attributes = ()
    extra_elements: tuple[Element, ...] = ()
