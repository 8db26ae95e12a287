"""The JSON Schema of the config file, for editors.

It accepts whatever `load` accepts. It cannot say all that is wrong: `load` also looks at files,
at values that do not go together, and closer into texts.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from omaha_mirror.config.model import Config
from omaha_mirror.config.rules import MODES, Follow, Pin, Relay, as_mapping
from omaha_mirror.config.section import Section

_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
}
"""The bounds of a value that is made of another one, in pydantic's words and in the schema's."""

_HAVE_A_DEFAULT_ELSEWHERE = {"cache", "directory", "state_directory"}
_EMPTY = {"type": "null"}


class _Untitled(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 (pydantic's signature)
        return False


def schema() -> dict[str, Any]:
    """The schema, in JSON Schema draft 2020-12."""
    sections = list(_sections(Config))
    rules = (Follow(), Pin("0"), Relay())
    _, found = models_json_schema(
        [(kind, "validation") for kind in (*sections, *map(_kind, rules))],
        schema_generator=_Untitled,
    )
    known = _standard(found["$defs"])
    for section in sections:
        defaults = section.model_construct().model_dump(mode="json")
        _complete(known[section.__name__], defaults)
    for rule in rules:
        _complete(known[type(rule).__name__], as_mapping(rule))
    for mode in ("Follow", "Relay"):
        known[mode]["properties"]["mode"] = {"const": mode.lower()}
        known[mode]["required"] = ["mode"]
    known["Relay"]["required"] += ["upstream_track"]
    known["Track"] = {
        "anyOf": [
            {"enum": list(MODES)},
            known["Pin"]["properties"]["version"],
            {"$ref": "#/$defs/Pin"},
            {"$ref": "#/$defs/Follow"},
            {"$ref": "#/$defs/Relay"},
        ]
    }
    config = known.pop("Config")
    track = {"$ref": "#/$defs/Track"}
    config["properties"]["default_track"]["anyOf"][0] = track
    config["properties"]["tracks"]["anyOf"][0]["additionalProperties"] = track
    config["title"] = "The config of omaha-mirror"
    return {"$schema": GenerateJsonSchema.schema_dialect, **config, "$defs": known}


def _kind(rule: object) -> Any:
    return type(rule)


def _sections(section: type[Section]) -> Iterator[type[Section]]:
    yield section
    for field in section.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _sections(field.annotation)


def _standard(node: Any) -> Any:
    """The schema with the bounds of values in its own words."""
    if isinstance(node, list):
        return [_standard(item) for item in node]
    if not isinstance(node, dict):
        return node
    words = {**_BOUNDS, "minLength": "minItems"} if node.get("type") == "array" else _BOUNDS
    return {words.get(key, key): _standard(value) for key, value in node.items()}


def _complete(written: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Say of each key of a section that it can be empty, and its default as people write it."""
    needed = set(written.pop("required", ())) - _HAVE_A_DEFAULT_ELSEWHERE
    if needed:
        written["required"] = sorted(needed)
    for key, value in written["properties"].items():
        about = {"description": value.pop("description")} if "description" in value else {}
        if value.pop("default", None) is not None and "$ref" not in value:
            about["default"] = defaults[key]
        if key in needed:
            forms = value
        else:
            others = [form for form in value.get("anyOf", [value]) if form != _EMPTY]
            forms = {"anyOf": [*others, _EMPTY]}
        written["properties"][key] = about | forms
