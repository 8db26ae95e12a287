"""The config as the program sees it: every key, its type, its limits and its default."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    PlainSerializer,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    model_validator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError, core_schema

from omaha_mirror.config import units, urls
from omaha_mirror.config.units import GIB, MIB, Address
from omaha_mirror.omaha.errors import BadVersion
from omaha_mirror.omaha.version import Version


@dataclass(frozen=True, slots=True)
class Distribution:
    """What differs between the distributions a mirror can stand before."""

    release_url: str
    payload_name: str
    app_ids: tuple[str, ...]
    allowed_hosts: tuple[str, ...]


T = TypeVar("T")

HERE = Address("127.0.0.1", 8001)
EVERYWHERE = Address("0.0.0.0", 8000)  # noqa: S104 (machines come from outside)

_APP_ID = "e96281a6-d1af-4bde-9a0a-97b76e56dc57"
DISTRIBUTIONS = {
    "flatcar": Distribution(
        release_url="https://update.release.flatcar-linux.net",
        payload_name="flatcar_production_update.gz",
        app_ids=(_APP_ID,),
        allowed_hosts=("https://*.flatcar-linux.net",),
    ),
    "coreos": Distribution(
        release_url="https://update.release.core-os.net",
        payload_name="update.gz",
        app_ids=(_APP_ID,),
        allowed_hosts=(),
    ),
}


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    return Address.parse(value)


def _app_id(text: str) -> str:
    try:
        return str(UUID(text.removeprefix("{").removesuffix("}")))
    except ValueError:
        raise ValueError(f"{text!r} is not a UUID such as {_APP_ID}") from None


def _path(path: Path, info: ValidationInfo) -> Path:
    if str(path).startswith("~"):
        raise ValueError(f"~ is not expanded here: write the whole path instead of {path}")
    folder: Path = info.context if isinstance(info.context, Path) else Path.cwd()
    return folder / path


def _readable(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    return path


def _version(text: str) -> str:
    try:
        Version.parse(text)
    except BadVersion as error:
        raise ValueError(f"{error}; write a release such as 4230.2.1") from None
    return text


def _package(name: str) -> str:
    if not re.fullmatch(r"(oem|flatcar)-[A-Za-z0-9._-]+\.gz", name, re.ASCII):
        raise ValueError(
            f"{name!r} is not an extra package: their names are oem-NAME.gz and flatcar-NAME.gz"
        )
    return name


def _file_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name, re.ASCII):
        raise ValueError(f"{name!r} is not a plain file name (letters, digits, ., _ and -)")
    return name


def _off(value: object) -> object:
    """YAML 1.1 reads an unquoted `off` as false."""
    return "off" if value is False else value


def _unique(values: tuple[T, ...]) -> tuple[T, ...]:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is in the list twice: write it once")
    return values


Size = Annotated[int, BeforeValidator(units.parse_size), PlainSerializer(units.format_size)]
"""Bytes."""
Duration = Annotated[
    float, BeforeValidator(units.parse_duration), PlainSerializer(units.format_duration)
]
"""Seconds."""
Listen = Annotated[Address, BeforeValidator(_address), PlainSerializer(str)]
Location = Annotated[Path, AfterValidator(_path)]
"""A path; a relative one is relative to the folder of the config file."""


class Section(BaseModel):
    """A mapping with known keys. A known key without a value counts as not written."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {k: v for k, v in data.items() if v is not None or k not in cls.model_fields}


@dataclass(frozen=True, slots=True)
class Hold:
    """Every machine of the track is answered `noupdate`."""


class Pin(Section):
    """Every machine of the track is offered one version, and nothing else."""

    version: Annotated[str, AfterValidator(_version)]
    packages: Annotated[
        tuple[Annotated[str, AfterValidator(_package)], ...], AfterValidator(_unique)
    ] = ()
    """Extra packages that go with the payload, such as `oem-azure.gz`."""
    allow_downgrade: bool = False
    """Offer the version to machines with a newer one too."""


def _read_track(value: object, pin: ValidatorFunctionWrapHandler) -> Hold | Pin:
    mode = value.get("mode") if isinstance(value, dict) else value
    if isinstance(value, Hold) or value == "hold":
        return Hold()
    if isinstance(mode, str) and mode in ("follow", "relay"):
        raise PydanticCustomError(
            "track_mode",
            f"{mode!r} is not available: this version answers pins and hold only; "
            'write hold, or the version to offer, such as "4230.2.1"',
        )
    if isinstance(value, str):
        value = {"version": value}
    elif not isinstance(value, dict | Pin):
        raise PydanticKnownError("string_type")
    track: Pin = pin(value)
    return track


def _write_track(track: Hold | Pin) -> object:
    if isinstance(track, Hold):
        return "hold"
    written = track.model_dump(mode="json", exclude_defaults=True)
    return written if len(written) > 1 else track.version


Track = Annotated[
    Hold | Pin,
    GetPydanticSchema(
        lambda _, handler: core_schema.no_info_wrap_validator_function(_read_track, handler(Pin))
    ),
    PlainSerializer(_write_track),
]
"""`hold`, a version, or a mapping with the fields of `Pin`."""


class AdminConfig(Section):
    """How operators reach the mirror. No address switches it off."""

    listen: Annotated[tuple[Listen, ...], AfterValidator(_unique)] = (HERE,)
    token_file: Location | None = None
    """The secret of who may change something; without one the mirror makes it in its state directory."""

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        far = next((address for address in self.listen if not address.is_loopback), None)
        if far is not None and self.token_file is None:
            raise ValueError(f"{far} is not loopback: with it, token_file must be set too")
        return self


class CacheConfig(Section):
    """Where packages are kept, and how many."""

    directory: Location
    max_size: Annotated[Size, Field(ge=1)] = 50 * GIB
    min_free: Annotated[Size, Field(ge=0)] = 2 * GIB
    """What stays free on the disk, whatever `max_size` would allow."""
    hold_back: Annotated[Size, Field(ge=1, le=32 * MIB)] = 1 * MIB
    """The end of a package that leaves only when the whole of it is proven."""
    when_abandoned: Literal["finish", "stop"] = "finish"
    """What becomes of a package that is being fetched when the last machine has left."""


def _preset(field: str) -> Any:
    return Field(default_factory=lambda data: getattr(DISTRIBUTIONS[data["distribution"]], field))


class UpstreamConfig(Section):
    """Where releases come from. `distribution` gives the defaults of the three keys after it."""

    distribution: Literal["flatcar", "coreos"] = "flatcar"
    release_url: Annotated[str, AfterValidator(urls.base_url)] = _preset("release_url")
    payload_name: Annotated[str, AfterValidator(_file_name)] = _preset("payload_name")
    app_ids: Annotated[
        tuple[Annotated[str, AfterValidator(_app_id)], ...],
        AfterValidator(_unique),
        Field(min_length=1),
    ] = _preset("app_ids")
    """Lower case, without braces."""
    allowed_hosts: tuple[Annotated[str, AfterValidator(urls.origin_pattern)], ...] = ()
    """As configured; `allowed` has the whole list."""
    ca_file: Annotated[Location, AfterValidator(_readable)] | None = None
    """PEM certificates to trust besides the system's."""
    proxy: Annotated[
        Annotated[str, AfterValidator(urls.proxy)] | None,
        PlainSerializer(urls.without_password),
        Field(repr=False),
    ] = None
    connect_timeout: Annotated[Duration, Field(gt=0)] = 30.0
    stall_timeout: Annotated[Duration, Field(gt=0)] = 5.0
    max_connections: Annotated[int, Field(ge=1, le=16)] = 4
    """Connections at one time for one package."""
    max_fills: Annotated[int, Field(ge=1, le=100)] = 3
    """Packages fetched at one time; the others wait their turn."""
    rate_limit: Annotated[Size, Field(ge=1024)] | None = None
    """Bytes a second for all that is fetched together."""

    @property
    def allowed(self) -> tuple[str, ...]:
        """All that may be fetched from, as `scheme://host[:port]`; a host may start with `*.`."""
        preset = DISTRIBUTIONS[self.distribution].allowed_hosts
        return tuple(
            dict.fromkeys((urls.origin_of(self.release_url), *preset, *self.allowed_hosts))
        )


class LogConfig(Section):
    """How the log is written. `auto` is the console form on a terminal, else JSON lines."""

    format: Literal["auto", "json", "console"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    """The whole config. `load` gives the two directories a default; the rest have one here."""

    listen: Annotated[tuple[Listen, ...], AfterValidator(_unique), Field(min_length=1)] = (
        EVERYWHERE,
    )
    public_url: Annotated[str, AfterValidator(urls.origin)] | None = None
    """How clients reach the mirror, `http(s)://host[:port]`; None is the Host each client used."""
    admin: AdminConfig = AdminConfig()
    cache: CacheConfig
    state_directory: Location
    release_layout: Annotated[Literal["offered", "off"], BeforeValidator(_off)] = "offered"
    """Which versions the release server's own paths, `/{board}/{version}/{file}`, give out."""
    upstream: UpstreamConfig = UpstreamConfig()
    default_track: Track = Hold()
    tracks: Mapping[Annotated[str, Field(min_length=1, max_length=128)], Track] = {}
    log: LogConfig = LogConfig()

    @property
    def token_file(self) -> Path:
        """Where the admin listener's token is."""
        return self.admin.token_file or self.state_directory / "admin-token"

    def track(self, name: str) -> Hold | Pin:
        """What the machines of a track are to get; a track without a rule has `default_track`'s."""
        return self.tracks.get(name, self.default_track)
