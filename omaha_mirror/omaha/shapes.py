"""The attributes and elements of each message type: one table for reading and writing."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Generic, TypeVar

from omaha_mirror.omaha import protocol
from omaha_mirror.omaha.errors import BadDigest
from omaha_mirror.omaha.values import Algorithm, Digest
from omaha_mirror.omaha.xml import escape

T = TypeVar("T")

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Kind:
    """How an attribute's text and a field's value are converted.

    Attributes:
        absent: The value of the field when there is no such attribute.
        read: From text to value; `None` where the text is no such value. A text that gives the value of an absent
            attribute is not put into the field. None: the text is the value.
        write: From value to text, escaped.
    """

    absent: str | None
    read: Callable[[str], Any] | None
    write: Callable[[Any], str]


@lru_cache(256)
def _integer(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None


def _digest(
    algorithm: Algorithm,
    parse: Callable[[str, Algorithm], Digest],
    text_of: Callable[[Digest], str],
) -> Kind:
    def read(text: str) -> Digest | None:
        try:
            return parse(text, algorithm)
        except BadDigest:
            return None

    def write(digest: Digest) -> str:
        if digest.algorithm != algorithm:
            raise BadDigest(f"{digest} stands where a {algorithm} belongs")
        return text_of(digest)

    return Kind(None, read, write)


_TEXT = Kind("", None, escape)
_TEXT_OR_NONE = Kind(None, None, escape)
_NUMBER = Kind(None, _integer, str)
_FLAG = Kind(None, {"true": True, "false": False}.get, {True: "true", False: "false"}.__getitem__)
_SHA1_BASE64 = _digest("sha1", Digest.from_base64, lambda digest: digest.base64)
_SHA256_BASE64 = _digest("sha256", Digest.from_base64, lambda digest: digest.base64)
_SHA256_HEX = _digest("sha256", Digest.from_hex, lambda digest: digest.hex)


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute `name` of the XML that is the field `field`, and its kind taken apart."""

    name: str
    field: str
    absent: str | None
    read: Callable[[str], Any] | None
    write: Callable[[Any], str]


class Shape(Generic[T]):
    """The attributes and children of a message type's element, in the order of writing.

    Attributes:
        type: The dataclass.
        attributes: By their name in the XML.
        values: Gives the fields of `attributes` of a message, and `extra`: always a tuple.
        children: By the name of the child element, or of the one that wraps the children.
    """

    __slots__ = ("_complete", "_reads", "attributes", "children", "type", "values")

    def __init__(self, type_: type[T], attributes: dict[str, Kind], *children: "Child"):
        self.type = type_
        self.attributes = {
            name: Attribute(
                name, _WORD_START.sub("_", name).lower(), kind.absent, kind.read, kind.write
            )
            for name, kind in attributes.items()
        }
        fields = (attribute.field for attribute in self.attributes.values())
        self.values = attrgetter(*fields, "extra")
        self.children = {child.wrapper or child.tag: child for child in children}
        self._reads = {a.name: (a.field, a.absent, a.read) for a in self.attributes.values()}
        self._complete = getattr(type_, "__post_init__", None)

    def fields(self, attributes: dict[str, str]) -> dict[str, Any]:
        """The fields that hold the attributes of an element; `extra` those that no other can."""
        values: dict[str, Any] = {}
        extra = None
        for name, text in attributes.items():
            known = self._reads.get(name)
            if known is not None:
                field, absent, read = known
                value = text if read is None else read(text)
                if value != absent:
                    values[field] = value
                    continue
            if extra is None:
                extra = [(name, text)]
            else:
                extra.append((name, text))
        if extra is not None:
            values["extra"] = tuple(extra)
        return values

    def make(self, values: dict[str, Any]) -> T:
        """The message with these fields, as its type makes it, at a tenth of the cost: all others have their defaults."""
        message = object.__new__(self.type)
        message.__dict__.update(values)
        if self._complete is not None:
            self._complete(message)
        return message


@dataclass(frozen=True, slots=True)
class Child:
    """The elements `tag` are the field `field`.

    Attributes:
        many: Whether the field is a tuple of them; else the first one counts.
        wrapper: The element around them, such as `urls` around `url`; empty for none.
    """

    tag: str
    field: str
    shape: Shape[Any]
    many: bool = False
    wrapper: str = ""


def _texts(names: str) -> dict[str, Kind]:
    return dict.fromkeys(names.split(), _TEXT)


_OS = Shape(protocol.Os, _texts("version platform sp arch"))
_PING_REQUEST = Shape(protocol.PingRequest, dict.fromkeys(("active", "a", "r"), _NUMBER))
_UPDATE_CHECK_REQUEST = Shape(protocol.UpdateCheckRequest, _texts("targetversionprefix"))
_EVENT_REQUEST = Shape(
    protocol.EventRequest,
    {
        "eventtype": _NUMBER,
        "eventresult": _NUMBER,
        "errorcode": _NUMBER,
        "previousversion": _TEXT_OR_NONE,
        "nextversion": _TEXT,
    },
)
_APP_REQUEST = Shape(
    protocol.AppRequest,
    _texts(
        "appid version track from_track bootid oem oemversion alephversion machineid machinealias"
        " lang board hardware_class"
    )
    | {"delta_okay": _FLAG}
    | _texts("nextversion client installage")
    | {"multi_manifest_ok": _FLAG},
    Child("ping", "ping", _PING_REQUEST),
    Child("updatecheck", "update_check", _UPDATE_CHECK_REQUEST),
    Child("event", "events", _EVENT_REQUEST, many=True),
)
REQUEST = Shape(
    protocol.Request,
    _texts("protocol version updaterversion installsource")
    | {"ismachine": _NUMBER}
    | _texts("requestid sessionid userid testsource"),
    Child("os", "os", _OS),
    Child("app", "apps", _APP_REQUEST, many=True),
)

_DAY_START = Shape(protocol.DayStart, {"elapsed_seconds": _NUMBER, "elapsed_days": _NUMBER})
_PING_RESPONSE = Shape(protocol.PingResponse, _texts("status"))
_EVENT_RESPONSE = Shape(protocol.EventResponse, _texts("status"))
_URL = Shape(protocol.Url, _texts("codebase"))
_PACKAGE = Shape(
    protocol.Package,
    {
        "name": _TEXT,
        "hash": _SHA1_BASE64,
        "hash_sha256": _SHA256_HEX,
        "size": _NUMBER,
        "required": _FLAG,
    },
)
_ACTION = Shape(
    protocol.Action,
    {
        "event": _TEXT,
        "sha256": _SHA256_BASE64,
        "DisplayVersion": _TEXT,
        "ChromeOSVersion": _TEXT,
        "needsadmin": _FLAG,
        "IsDeltaPayload": _FLAG,
        "IsDelta": _FLAG,
        "DisablePayloadBackoff": _FLAG,
        "MaxFailureCountPerUrl": _NUMBER,
        "MetadataSignatureRsa": _TEXT,
        "MetadataSize": _TEXT,
        "deadline": _TEXT,
        "MoreInfo": _TEXT,
        "Prompt": _FLAG,
    },
)
_MANIFEST = Shape(
    protocol.Manifest,
    {"version": _TEXT, "is_floor": _FLAG, "floor_reason": _TEXT, "is_target": _FLAG},
    Child("package", "packages", _PACKAGE, many=True, wrapper="packages"),
    Child("action", "actions", _ACTION, many=True, wrapper="actions"),
)
_UPDATE_CHECK = Shape(
    protocol.UpdateCheck,
    {"status": _TEXT, "PollInterval": _NUMBER},
    Child("url", "urls", _URL, many=True, wrapper="urls"),
    Child("manifest", "manifests", _MANIFEST, many=True),
)
_APP_RESPONSE = Shape(
    protocol.AppResponse,
    _texts("appid status"),
    Child("ping", "ping", _PING_RESPONSE),
    Child("updatecheck", "update_check", _UPDATE_CHECK),
    Child("event", "events", _EVENT_RESPONSE, many=True),
)
RESPONSE = Shape(
    protocol.Response,
    _texts("protocol server"),
    Child("daystart", "daystart", _DAY_START),
    Child("app", "apps", _APP_RESPONSE, many=True),
)
