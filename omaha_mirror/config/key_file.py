"""The vendor's public keys, read with the config: a key that is replaced in its file is a change of the config."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticKnownError

from omaha_mirror.config.section import located


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file with one public key.

    Attributes:
        path: of the file.
        pem: what is in it, a key that clients can use.
    """

    path: Path
    pem: bytes = field(repr=False)

    def __str__(self) -> str:
        return str(self.path)


def _read(value: object, info: ValidationInfo) -> KeyFile:
    if isinstance(value, KeyFile):
        return value
    if not isinstance(value, str | Path):
        raise PydanticKnownError("string_type")
    from omaha_mirror.payload import BadKey, read_pem  # noqa: PLC0415 (100 ms)

    path = located(Path(value), info)
    try:
        return KeyFile(path, read_pem(path))
    except BadKey as error:
        raise ValueError(str(error)) from None


PublicKey = Annotated[
    KeyFile,
    BeforeValidator(_read),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "format": "path"}),
]
"""Written as a path; a relative one is relative to the folder of the config file."""
