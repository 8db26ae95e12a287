"""The rules of the tracks: what the machines of each get, and how a config writes it."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    PlainSerializer,
    StrictBool,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticKnownError, core_schema

from omaha_mirror.config.errors import did_you_mean
from omaha_mirror.config.section import Duration, Release, unique
from omaha_mirror.reasons import Reason

_FORM = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
TrackName = Annotated[str, Field(min_length=1, max_length=128)]


@dataclass(frozen=True, config=_FORM)
class _Written:
    """A rule that is a mapping. A known key without a value counts as not written."""

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = cls.__dataclass_fields__
        return {key: value for key, value in data.items() if value is not None or key not in known}


@dataclass(frozen=True, config=_FORM)
class Hold:
    """Every machine of the track is answered `noupdate`."""

    reason: Reason = Reason.HELD
    """In answers to machines."""


@dataclass(frozen=True, config=_FORM)
class Relay(_Written):
    """Each check is passed on upstream with the machine's own identity."""

    upstream_track: TrackName | None = None
    """The track's name upstream, where that is another one."""


@dataclass(frozen=True, config=_FORM)
class Follow(_Written):
    """Every machine of the track is offered what upstream offers on it."""

    delay: Annotated[Duration, Field(ge=0)] = 0.0
    """From when a version is first seen upstream to its first offer."""
    ramp: Annotated[Duration, Field(ge=0)] = 0.0
    """After that, the time over which the machines' turns are spread."""
    max_version: Release | None = None
    """Nothing newer is offered."""
    upstream_track: TrackName | None = None
    """The track's name upstream, where that is another one."""


def _package(name: str) -> str:
    if not re.fullmatch(r"(oem|flatcar)-[A-Za-z0-9._-]+\.gz", name, re.ASCII):
        raise ValueError(
            f"{name!r} is not an extra package: their names are oem-NAME.gz and flatcar-NAME.gz"
        )
    return name


@dataclass(frozen=True, config=_FORM)
class Pin(_Written):
    """Every machine of the track is offered one version, and the floors before it."""

    version: Release
    packages: Annotated[
        tuple[Annotated[str, AfterValidator(_package)], ...], AfterValidator(unique)
    ] = ()
    """Extra packages that go with the payload, such as `oem-azure.gz`."""
    allow_downgrade: StrictBool = False
    """Offer the version to machines with a newer one too."""
    skip_floors: StrictBool = False
    """Offer it also to machines below a version that all are to step through."""


Rule = Hold | Relay | Follow | Pin


def track_upstream(track: str, rule: Rule) -> str:
    """What a track is called upstream."""
    named = rule.upstream_track if isinstance(rule, Follow | Relay) else None
    return named or track


def depends_on_track(rule: Rule) -> bool:
    """Whether where a rule leads depends on the track that has it: a pin and a hold are the same on every track."""
    return isinstance(rule, Follow | Relay)


MODES = ("follow", "relay", "hold")


KINDS: Mapping[str, Any] = {"<pin>": Pin, "<follow>": Follow, "<relay>": Relay}
"""The mappings that a track can be; the names stand in the paths of pydantic's errors."""


def _kind(value: object) -> str:
    match value:
        case Pin() | Follow() | Relay():
            return f"<{type(value).__name__.lower()}>"
        case Hold():
            return "<word>"
        case {"mode": "relay", "upstream_track": _}:
            return "<relay>"
        case {"mode": _}:
            return "<follow>"
        case dict():
            return "<pin>"
        case str() if value in MODES:
            return "<word>"
    return "<pin>"


def _read_word(value: object) -> object:
    return {"hold": Hold(), "relay": Relay(), "follow": Follow()}.get(str(value), value)


def _without_mode(value: object) -> object:
    """The mapping without its mode, which must be one that allows further keys."""
    if not isinstance(value, dict):
        return value
    mode = value.get("mode")
    if mode != "follow" and not (mode == "relay" and "upstream_track" in value):
        words = (
            f"write just {mode}{', or add upstream_track' if mode == 'relay' else ''}"
            if mode in MODES
            else f'only "mode: follow" has more to say{did_you_mean(str(mode), MODES)}'
        )
        raise ValueError(f"a track with the mode {mode!r} has no further keys: {words}")
    return {key: item for key, item in value.items() if key != "mode"}


def _from_version(value: object) -> object:
    if isinstance(value, str):
        if near := did_you_mean(value, MODES):
            raise ValueError(
                f"cannot read the version {value!r}; write follow, relay, hold or a release{near}"
            )
        return {"version": value}
    if not isinstance(value, dict | Pin):
        raise PydanticKnownError("string_type")
    return value


def _schema(_: Any, handler: Any) -> core_schema.CoreSchema:
    before = core_schema.no_info_before_validator_function
    return core_schema.tagged_union_schema(
        {
            "<pin>": before(_from_version, handler(Pin)),
            "<follow>": before(_without_mode, handler(Follow)),
            "<relay>": before(_without_mode, handler(Relay)),
            "<word>": before(
                _read_word,
                core_schema.union_schema(
                    [core_schema.is_instance_schema(kind) for kind in (Hold, Relay, Follow)]
                ),
            ),
        },
        discriminator=_kind,
    )


def as_mapping(rule: Rule, *, changed: bool = False) -> dict[str, Any]:
    """The keys of a rule as people write them; `changed` for those alone that are not the default."""
    kind = TypeAdapter(type(rule))
    written: dict[str, Any] = kind.dump_python(rule, mode="json", exclude_defaults=changed)
    return written


def _write(track: Rule) -> object:
    match track:
        case Hold():
            return "hold"
        case Follow() | Relay():
            mode = type(track).__name__.lower()
            written = as_mapping(track, changed=True)
            return {"mode": mode, **written} if written else mode
        case Pin(version=version):
            written = as_mapping(track, changed=True)
            return written if len(written) > 1 else version


Track = Annotated[
    Rule,
    GetPydanticSchema(_schema),
    PlainSerializer(_write),
    WithJsonSchema({}),  # `schema` says more
]
"""`follow`, `relay`, `hold`, a version, or a mapping with the fields of `Pin` or, with a mode, of `Follow` or `Relay`."""
Tracks = Mapping[TrackName, Track]
