"""The errors that pydantic finds, in words, each at its place in the file."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from omaha_mirror.config import environment, rules, yaml_marks
from omaha_mirror.config.errors import did_you_mean
from omaha_mirror.config.model import Config
from omaha_mirror.config.section import written
from omaha_mirror.config.yaml_marks import Document, Flaw, KeyPath, Place

_NOWHERE = Place((0, 0), (0, 0))

UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
"""What pydantic says of one, in a model and in a dataclass."""
_WORDS = {
    "model_type": "must be a mapping (key: value lines)",
    "dataclass_type": "must be a mapping (key: value lines)",
    "mapping_type": "must be a mapping (key: value lines)",
    "dict_type": "must be a mapping (key: value lines)",
    "tuple_type": "must be a list, such as [first, second]",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "string_type": "must be text",
    "path_type": "must be a path",
    "string_too_short": "cannot be empty",
    "string_too_long": "is too long: at most {max_length} characters",
    "too_short": "cannot be empty",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "value_error": "{error}",
}
"""The words for each pydantic error type; other types keep pydantic's."""
_BOUNDS = {"greater_than": "gt", "greater_than_equal": "ge", "less_than_equal": "le"}


DEFAULTS_MEET: dict[KeyPath, KeyPath] = {("admin",): ("listen",)}
"""The key to blame for the fault of a section that the file does not have."""


def note(error: ValidationError, documents: Sequence[Document]) -> None:
    """Add the errors to the flaws of the documents that the values are from.

    Args:
        error: of the config that the documents form together.
        documents: the file first; a value belongs to the document with the longest root that contains it.
    """
    known = {(each.source, flaw.at) for each in documents for flaw in each.flaws}
    for details in error.errors(include_url=False):
        # A preset is not looked up under a wrong distribution, which has an error of its own.
        if details["type"] == "default_factory_not_called":
            continue
        path = tuple(key for key in details["loc"] if key not in rules.KINDS)
        document = max(
            (each for each in documents if path[: len(each.root)] == each.root),
            key=lambda each: len(each.root),
        )
        flaw = _flaw(details, path, document)
        if (document.source, flaw.at) not in known:
            document.flaws.append(flaw)


def _flaw(details: ErrorDetails, path: KeyPath, document: Document) -> Flaw:
    places = document.places
    if details["type"] != "missing":
        # A version by itself is read as a mapping with one key, which the file does not have.
        path = next((path[:n] for n in range(len(path), 0, -1) if path[:n] in places), path)
    place = places.get(path) or places.get(path[:-1] or DEFAULTS_MEET.get(path, path))
    words = _words(details, place or _NOWHERE, path)
    if place is None:
        return Flaw(path, (0, 0), words)
    at_key = details["type"] in (*UNKNOWN_KEY, "missing")
    return Flaw(path, place.key if at_key else place.value, words)


def _words(details: ErrorDetails, place: Place, path: KeyPath) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind in UNKNOWN_KEY:
        return "unknown key" + did_you_mean(str(path[-1]), _fields_beside(details["loc"]))
    if kind == "missing":
        said = f"the key {path[-1]} is needed here"
        if path in environment.DIRECTORIES:
            systemd, xdg, _ = environment.DIRECTORIES[path]
            said += f": none of ${systemd}, ${xdg} and $HOME is set"
        return said
    if details["input"] is None:
        return "has no value: give one, or remove the key"
    if kind in ("string_type", "literal_error") and place.kind:
        return f"YAML reads {place.text} as {place.kind}: {yaml_marks.quote(place.text)}"
    if kind == "literal_error":
        expected = str(context["expected"])
        return f"must be {expected}" + did_you_mean(place.text, expected.split("'")[1::2])
    if kind in _BOUNDS:
        context = {_BOUNDS[kind]: _with_unit(context[_BOUNDS[kind]], details["loc"])}
    return _WORDS[kind].format(**context) if kind in _WORDS else details["msg"]


def _with_unit(bound: float, path: KeyPath) -> str:
    field = _fields_beside(path).get(str(path[-1]))
    write = written(field) if field is not None else None
    return write(bound) if write is not None else f"{bound:g}"


def _fields_beside(path: KeyPath) -> Mapping[str, FieldInfo]:
    """All fields of the section or rule that has the last key of a path."""
    kind: Any = Config
    for key in path[:-1]:
        field = kind.__pydantic_fields__.get(str(key))
        inside: Any = rules.KINDS.get(str(key)) or (field.annotation if field else None)
        if hasattr(inside, "__pydantic_fields__"):
            kind = inside
    fields: Mapping[str, FieldInfo] = kind.__pydantic_fields__
    return fields
