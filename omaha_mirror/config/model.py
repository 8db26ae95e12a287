"""The config as the program sees it: every key, its type, its limits and its default."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    StrictBool,
    StrictInt,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from omaha_mirror.config import urls
from omaha_mirror.config.credentials import PackagesAuth, PublicKey, TlsConfig, check_authorities
from omaha_mirror.config.rules import Follow, Rule, Track, Tracks
from omaha_mirror.config.section import (
    Duration,
    Listen,
    Location,
    Network,
    Section,
    Size,
    unique,
)
from omaha_mirror.config.units import GIB, MIB, Address


@dataclass(frozen=True, slots=True)
class Distribution:
    """The settings in which the distributions differ."""

    omaha_url: str
    release_url: str
    payload_name: str
    app_ids: tuple[str, ...]
    allowed_hosts: tuple[str, ...]


LOOPBACK = Address("127.0.0.1", 8001)
ALL_INTERFACES = Address("0.0.0.0", 8000)  # noqa: S104 (machines come from outside)

_APP_ID = "e96281a6-d1af-4bde-9a0a-97b76e56dc57"
DISTRIBUTIONS = {
    "flatcar": Distribution(
        omaha_url="https://public.update.flatcar-linux.net/v1/update/",
        release_url="https://update.release.flatcar-linux.net",
        payload_name="flatcar_production_update.gz",
        app_ids=(_APP_ID,),
        # The release servers redirect to these.
        allowed_hosts=("https://*.flatcar-linux.net", "https://flatcar.cdn.cncf.io"),
    ),
    "coreos": Distribution(
        omaha_url="https://public.update.core-os.net/v1/update/",
        release_url="https://update.release.core-os.net",
        payload_name="update.gz",
        app_ids=(_APP_ID,),
        allowed_hosts=(),
    ),
}


def _app_id(text: str) -> str:
    try:
        return str(UUID(text.removeprefix("{").removesuffix("}")))
    except ValueError:
        raise ValueError(f"{text!r} is not a UUID such as {_APP_ID}") from None


def _file_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name, re.ASCII):
        raise ValueError(f"{name!r} is not a plain file name (letters, digits, ., _ and -)")
    return name


def _off(value: object) -> object:
    """YAML 1.1 reads an unquoted `off` as false."""
    return "off" if value is False else value


def _reachable(auth: PackagesAuth, info: ValidationInfo) -> PackagesAuth:
    """Check that machines get https URLs: they send their password to no others."""
    if auth.user is None:
        return auth
    tls, public_url = info.data.get("tls"), info.data.get("public_url", "https://")
    if tls is not None and tls.certificate is None:
        raise ValueError("passwords are for TLS only: set tls.certificate too")
    if not (public_url or "").startswith("https://"):
        raise ValueError(
            "machines send the password to https addresses only:"
            " set public_url to the one of tls.listen, such as https://mirror.example:8443"
        )
    return auth


def _apart(key: str, addresses: Listen, info: ValidationInfo) -> None:
    """Raises ValueError if an earlier key of the config has one of the addresses."""
    taken = [("listen", address) for address in info.data.get("listen", ())]
    tls = info.data.get("tls")
    if tls is not None and tls.certificate is not None:
        taken += [("tls.listen", address) for address in tls.listen]
    for address in addresses:
        for name, other in taken:
            if address.meets(other):
                raise ValueError(
                    f"{key} {address} and {name} {other} are the same place: give each a port of its own"
                )


def _tls_apart(tls: TlsConfig, info: ValidationInfo) -> TlsConfig:
    if tls.certificate is not None:
        _apart("tls.listen", tls.listen, info)
    return tls


def _admin_apart(admin: "AdminConfig", info: ValidationInfo) -> "AdminConfig":
    _apart("admin.listen", admin.listen, info)
    return admin


class AdminConfig(Section):
    """The admin listener for operators. An empty list of addresses switches it off."""

    listen: Listen = (LOOPBACK,)
    token_file: Location | None = None
    """The file of the token that changes require; null: the mirror creates one in its state directory."""

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        far = next((address for address in self.listen if not address.is_loopback), None)
        if far is not None and self.token_file is None:
            raise ValueError(f"{far} is not loopback: with it, token_file must be set too")
        return self


class CacheConfig(Section):
    """The directory and the bounds of the cache."""

    directory: Location
    max_size: Annotated[Size, Field(ge=1)] = 50 * GIB
    min_free: Annotated[Size, Field(ge=0)] = 2 * GIB
    """Bytes that stay free on the disk, whatever `max_size` allows."""
    hold_back: Annotated[Size, Field(ge=1, le=32 * MIB)] = 1 * MIB
    """Bytes at the end of a package that are sent only when the whole package is verified."""
    when_abandoned: Literal["finish", "stop"] = "finish"
    """Whether a download finishes or stops when its last client disconnects."""


def _preset(field: str) -> Any:
    return Field(default_factory=lambda data: getattr(DISTRIBUTIONS[data["distribution"]], field))


class UpstreamConfig(Section):
    """The upstream servers. `distribution` gives the defaults of the four keys after it."""

    can_be_null: ClassVar[frozenset[str]] = frozenset({"omaha_url", "release_url"})

    distribution: Literal["flatcar", "coreos"] = "flatcar"
    omaha_url: Annotated[str, AfterValidator(urls.http_url)] | None = _preset("omaha_url")
    """The Omaha server that machines would ask without the mirror; null: the mirror asks none."""
    release_url: Annotated[str, AfterValidator(urls.base_url)] | None = _preset("release_url")
    """The release server for pinned releases whose manifest upstream's Omaha did not send; null: none."""
    payload_name: Annotated[str, AfterValidator(_file_name)] = _preset("payload_name")
    app_ids: Annotated[
        tuple[Annotated[str, AfterValidator(_app_id)], ...],
        AfterValidator(unique),
        Field(min_length=1),
    ] = _preset("app_ids")
    """The applications of the machines; UUIDs, in lower case and without braces."""
    allowed_hosts: tuple[Annotated[str, AfterValidator(urls.origin_pattern)], ...] = ()
    """Further origins to download from; `allowed` has the whole list."""
    public_keys: Annotated[tuple[PublicKey, ...], AfterValidator(unique)] = ()
    """PEM; with any, packages without a signature by one of these keys are refused."""
    ca_file: Annotated[Location, AfterValidator(check_authorities)] | None = None
    """PEM certificates to trust besides the system's."""
    proxy: Annotated[
        Annotated[str, AfterValidator(urls.proxy)] | None,
        PlainSerializer(urls.without_password),
        Field(repr=False),
    ] = None
    poll_interval: Annotated[Duration, Field(ge=60)] = 900.0
    """From one check of a followed track to the next."""
    forward_events: Literal["none", "anonymous", "all"] = "none"
    """The events of machines on followed or pinned tracks that upstream gets."""
    fallback_to_upstream: StrictBool = False
    """Give machines upstream's own codebase as a second one, after the mirror's."""
    connect_timeout: Annotated[Duration, Field(gt=0)] = 30.0
    stall_timeout: Annotated[Duration, Field(gt=0)] = 5.0
    max_connections: Annotated[StrictInt, Field(ge=1, le=16)] = 4
    """Simultaneous connections for one package."""
    max_fills: Annotated[StrictInt, Field(ge=1, le=100)] = 3
    """Simultaneous downloads; others wait."""
    rate_limit: Annotated[Size, Field(ge=1024)] | None = None
    """Bytes a second for all downloads together."""

    @property
    def key_files(self) -> dict[str, bytes]:
        """The content of each of `public_keys`, by its path."""
        return {str(file.path): file.pem for file in self.public_keys}

    @property
    def allowed(self) -> tuple[str, ...]:
        """All origins to download from, as `scheme://host[:port]`; a host may start with `*.`."""
        preset = DISTRIBUTIONS[self.distribution].allowed_hosts
        asked = (self.omaha_url, self.release_url)
        own = tuple(urls.origin_of(url) for url in asked if url is not None)
        return tuple(dict.fromkeys((*own, *preset, *self.allowed_hosts)))


class FleetConfig(Section):
    """The database of machines."""

    database: Annotated[
        Annotated[str, AfterValidator(urls.database)] | None,
        PlainSerializer(urls.without_password),
        Field(repr=False),
    ] = None
    """`sqlite:////path` or `postgresql://user:password@host/name`; None: fleet.db in the state directory."""
    retention: Annotated[Duration, Field(ge=3600)] = 90 * 86400.0
    """The age at which history is deleted."""


class LogConfig(Section):
    """The form of the log. `auto` is the console form on a terminal, else JSON lines."""

    format: Literal["auto", "json", "console"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    """The whole config. Every key has a default; `load` gives that of the two directories."""

    listen: Annotated[Listen, Field(min_length=1)] = (ALL_INTERFACES,)
    """Addresses of the listener for machines, as `host:port`."""
    public_url: Annotated[str, AfterValidator(urls.origin)] | None = None
    """The mirror's URL for clients, `http(s)://host[:port]`; null: the Host of each request."""
    tls: Annotated[TlsConfig, AfterValidator(_tls_apart)] = TlsConfig()
    packages_auth: Annotated[PackagesAuth, AfterValidator(_reachable)] = PackagesAuth()
    trusted_proxies: Annotated[tuple[Network, ...], AfterValidator(unique)] = ()
    """Clients whose X-Forwarded-For, -Proto, -Host and -Port are used; those of others are ignored."""
    admin: Annotated[AdminConfig, AfterValidator(_admin_apart)] = Field(
        default=AdminConfig(), validate_default=True
    )
    cache: CacheConfig
    state_directory: Location
    release_layout: Annotated[
        Literal["offered", "off"],
        BeforeValidator(_off),
        WithJsonSchema({"enum": ["offered", "off", False]}),
    ] = "offered"
    """Which versions can be downloaded under the release server's paths, `/{board}/{version}/{file}`."""
    upstream: UpstreamConfig = UpstreamConfig()
    default_track: Track = Follow()
    tracks: Tracks = Field(default_factory=dict)
    fleet: FleetConfig = FleetConfig()
    log: LogConfig = LogConfig()

    @property
    def fleet_database(self) -> str:
        """The URL of the database of machines."""
        return self.fleet.database or f"sqlite:///{self.state_directory / 'fleet.db'}"

    @property
    def token_file(self) -> Path:
        """The path of the admin listener's token."""
        return self.admin.token_file or self.state_directory / "admin-token"

    def track(self, name: str) -> Rule:
        """The rule of a track; a track without one has `default_track`'s."""
        return self.tracks.get(name, self.default_track)
