"""The types of values in the config, and the base of its sections."""

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticKnownError

from omaha_mirror.config import units
from omaha_mirror.config.units import Address
from omaha_mirror.omaha.errors import BadVersion
from omaha_mirror.omaha.values import Version
from omaha_mirror.state_file import Damaged, read_file

T = TypeVar("T")
USUAL = {"delay": "h", "ramp": "h", "retention": "d", "poll_interval": "m"}
"""The unit that people usually mean in a duration without one; seconds for all other keys."""
FILE_LIMIT = 4 * units.MIB
"""Bytes of a file that the config names: certificates, a key, a password."""


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    return Address.parse(value)


def _listed(value: object) -> object:
    """A list of one address, if it is written without a list."""
    return value if isinstance(value, list | tuple | dict) else (value,)


def _network(value: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"{error}: write an address or a network such as 10.0.0.0/8") from None


def located(path: Path, info: ValidationInfo) -> Path:
    """The path, relative to the folder of the config file. Raises ValueError."""
    if "\0" in str(path):
        raise ValueError("a path has no NUL character")
    if str(path).startswith("~"):
        raise ValueError(f"~ is not expanded here: write the whole path instead of {path}")
    folder: Path = info.context if isinstance(info.context, Path) else Path.cwd()
    return folder / path


def readable(path: Path, *ignored: type[OSError]) -> Path:
    """The path as it is. Raises ValueError if the file cannot be read, for another reason than those ignored.

    A pipe or a device in its place would never end, so it is none.
    """
    try:
        read_file(path, FILE_LIMIT)
    except Damaged as error:
        raise ValueError(str(error)) from None
    except OSError as error:
        if not isinstance(error, ignored):
            raise ValueError(f"cannot read {path}: {error.strerror}") from None
    return path


def _version(text: str) -> str:
    try:
        Version.parse(text)
    except BadVersion as error:
        raise ValueError(f"{error}; write a release such as 4230.2.1") from None
    return text


def _duration(value: object, info: ValidationInfo) -> float:
    """Seconds. A file must give a unit: one reader takes a number alone for hours, another for seconds."""
    if isinstance(info.context, Path):
        units.refuse_bare_number(value, USUAL.get(info.field_name or "", "s"))
    return units.parse_duration(value)


def unique(values: tuple[T, ...]) -> tuple[T, ...]:
    """The values as they are. Raises ValueError if one occurs twice."""
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is in the list twice: write it once")
    return values


def _apart(addresses: tuple[Address, ...]) -> tuple[Address, ...]:
    """The addresses as they are. Raises ValueError if two cannot be bound at the same time."""
    for one, other in combinations(addresses, 2):
        if one.meets(other):
            raise ValueError(f"{one} and {other} are the same place: write one of them")
    return addresses


@dataclass(frozen=True, slots=True)
class _OrText:
    """Adds to the JSON Schema that a value can also be written as text.

    Attributes:
        pattern: of the text.
        number: the only number that can be written instead; None: any.
    """

    pattern: str
    number: int | None = None

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        only = {} if self.number is None else {"const": self.number}
        return {
            "anyOf": [
                handler(schema) | only,
                {"type": "string", "pattern": self.pattern},
            ]
        }


_ADDRESS = r":[0-9]{1,5}$"
_SIZE = r"^\s*[0-9]{1,20}\s*(([KkMmGgTt][Ii]?)?[Bb])?\s*$"
_DURATION = r"^\s*(?=[0-9])([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?\s*$"
_RELEASE = r"^[0-9]+(\.[0-9]+)*([-+][0-9A-Za-z._+-]+)?$"

Size = Annotated[
    int, BeforeValidator(units.parse_size), PlainSerializer(units.format_size), _OrText(_SIZE)
]
"""Bytes."""
Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(units.format_duration),
    _OrText(_DURATION, number=0),
]
"""Seconds."""
_Listen = Annotated[
    Address,
    BeforeValidator(_address),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": _ADDRESS}),
]


def _named(value: object) -> object:
    """Refuse an empty path: it would mean the folder of the config file."""
    if value == "":
        raise ValueError("cannot be empty")
    return value


Listen = Annotated[
    tuple[_Listen, ...],
    BeforeValidator(_listed),
    AfterValidator(unique),
    AfterValidator(_apart),
    _OrText(_ADDRESS),
]
"""The addresses to listen on; one address can be written without a list."""
Network = Annotated[
    ipaddress.IPv4Network | ipaddress.IPv6Network,
    BeforeValidator(_network),
    PlainSerializer(str),
    WithJsonSchema({"type": "string"}),
]
"""A network of IP addresses, or a single address."""
Release = Annotated[
    str, AfterValidator(_version), WithJsonSchema({"type": "string", "pattern": _RELEASE})
]
"""The version of a release."""
Location = Annotated[Path, BeforeValidator(_named), AfterValidator(located)]
"""A path; a relative one is relative to the folder of the config file."""
Secret = Annotated[Location, AfterValidator(lambda path: readable(path, PermissionError))]
"""The path of a file that only the mirror's user may read; an operator's shell may lack the permission."""


class Section(BaseModel):
    """A mapping with known keys. A known key without a value counts as missing."""

    can_be_null: ClassVar[frozenset[str]] = frozenset()
    """Keys where `null` has a meaning of its own."""
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        empty = cls.model_fields.keys() - cls.can_be_null
        return {k: v for k, v in data.items() if v is not None or k not in empty}


def keys(section: type[Section], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all keys that hold a value and not a section, in the order of the model."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from keys(field.annotation, (*above, name))
        else:
            yield (*above, name)


def written(field: FieldInfo) -> Callable[[Any], str] | None:
    """The function that writes a value of the key with its unit; None if it has no unit."""
    kinds = [*field.metadata, *_parts(field.annotation)]
    writers = (kind.func for kind in kinds if isinstance(kind, PlainSerializer))
    units_ = (units.format_size, units.format_duration)
    return next((writer for writer in writers if writer in units_), None)


def _parts(annotation: object) -> Iterator[object]:
    for part in get_args(annotation):
        yield part
        yield from _parts(part)
