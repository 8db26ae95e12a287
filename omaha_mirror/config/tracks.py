"""The rules of the tracks: what the machines of each are to get."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    GetPydanticSchema,
    PlainSerializer,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic_core import PydanticKnownError, core_schema

from omaha_mirror.config.errors import did_you_mean
from omaha_mirror.config.rules import Follow, Hold, Pin, Relay, Rule, TrackName

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
    """A mapping whose mode is the one that it can have."""
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
