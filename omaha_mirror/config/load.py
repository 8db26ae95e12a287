"""Reading the config file: one pass that finds everything wrong with it, each with its place."""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from omaha_mirror.config import yaml_marks
from omaha_mirror.config.errors import ConfigError, Problem
from omaha_mirror.config.model import Config, Pin
from omaha_mirror.config.yaml_marks import Document, Flaw, Place

MAX_BYTES = 64 * 1024

_DIRECTORIES: dict[yaml_marks.KeyPath, tuple[str, str, str]] = {
    ("cache", "directory"): ("CACHE_DIRECTORY", "XDG_CACHE_HOME", ".cache"),
    ("state_directory",): ("STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state"),
}
"""What a directory that the file does not name is taken from: two variables, a folder in $HOME."""

_NOWHERE = Place((0, 0), (0, 0))

_WORDS = {
    "model_type": "must be a mapping (key: value lines)",
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
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "value_error": "{error}",
}
"""Of each pydantic error type; the words of the others are passed on as they are."""


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The config in a file; without a file, the defaults.

    Relative paths in the file are relative to its folder. Where the file names no directory for
    the cache or the state, it comes from $CACHE_DIRECTORY and $STATE_DIRECTORY (systemd.exec(5)),
    else from the XDG base directories.

    Raises:
        ConfigError: The file cannot be read or used; it holds everything found wrong.
    """
    text = _read(path) if path else ""
    document = yaml_marks.read(text)
    flaws = list(document.flaws)
    data = {} if document.data is None else document.data
    if not isinstance(data, dict):
        flaws.append(Flaw((), (1, 1), "the file must be a mapping: key: value lines"))
    elif data or not flaws:
        folder = path.parent.absolute() if path else Path.cwd()
        try:
            config = Config.model_validate(_with_directories(data, environ), context=folder)
        except ValidationError as error:
            flaws += _wrong_values(error, document)
    if flaws:
        raise ConfigError(tuple(_problems(str(path or "config"), text, flaws)))
    return config


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        hint = "there is no such file; name another with --config, or none to use the defaults"
        raise ConfigError((Problem(str(path), hint),)) from None
    except OSError as error:
        raise ConfigError((Problem(str(path), f"cannot be read: {error.strerror}"),)) from None
    if len(raw) > MAX_BYTES:
        said = f"larger than {MAX_BYTES // 1024} KiB: this is not a config file"
        raise ConfigError((Problem(str(path), said),))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        said = f"not UTF-8 text: byte {raw[error.start]:#04x} at offset {error.start}"
        raise ConfigError((Problem(str(path), said),)) from None


def _with_directories(data: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    cache_directory, state_directory = (
        _default_directory(environ, *sources) for sources in _DIRECTORIES.values()
    )
    cache = {} if data.get("cache") is None else data["cache"]
    if isinstance(cache, dict):
        cache = _with_default(cache, "directory", cache_directory)
    return _with_default({**data, "cache": cache}, "state_directory", state_directory)


def _with_default(section: dict[str, Any], key: str, default: Path | None) -> dict[str, Any]:
    if default is None or section.get(key) is not None:
        return section
    return {**section, key: default}


def _default_directory(
    environ: Mapping[str, str], systemd: str, xdg: str, below_home: str
) -> Path | None:
    # systemd separates several directories by colons; the first one is the unit's own.
    if given := environ.get(systemd, "").partition(":")[0]:
        return Path(given)
    base = Path(environ.get(xdg, ""))
    if base.is_absolute():
        return base / "omaha-mirror"
    home = environ.get("HOME")
    return Path(home, below_home, "omaha-mirror") if home else None


def _wrong_values(error: ValidationError, document: Document) -> Iterator[Flaw]:
    known = {flaw.at for flaw in document.flaws}
    for details in error.errors(include_url=False):
        flaw = _flaw(details, document)
        # A preset is not looked up under a wrong distribution, which has an error of its own.
        if flaw.at not in known and details["type"] != "default_factory_not_called":
            yield flaw


def _flaw(details: ErrorDetails, document: Document) -> Flaw:
    path, places = details["loc"], document.places
    if details["type"] != "missing":
        # A version by itself is read as a mapping with one key, which the file does not have.
        path = next((path[:n] for n in range(len(path), 0, -1) if path[:n] in places), path)
    place = places.get(path) or (places.get(path[:-1]) if path[:-1] else None)
    words = _words(details, place or _NOWHERE, path)
    if place is None:
        return Flaw(path, (0, 0), words)
    at_key = details["type"] in ("extra_forbidden", "missing")
    return Flaw(path, place.key if at_key else place.value, words)


def _words(details: ErrorDetails, place: Place, path: yaml_marks.KeyPath) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key" + _did_you_mean(str(path[-1]), _keys_beside(path))
    if kind == "missing":
        said = f"the key {path[-1]} is needed here"
        if path in _DIRECTORIES:
            systemd, xdg, _ = _DIRECTORIES[path]
            said += f": none of ${systemd}, ${xdg} and $HOME is set"
        return said
    if details["input"] is None:
        return "has no value: give one, or remove the key"
    if kind in ("string_type", "literal_error") and place.kind:
        return f"YAML reads {place.text} as {place.kind}: {yaml_marks.quote(place.text)}"
    if kind == "literal_error":
        expected = str(context["expected"])
        return f"must be {expected}" + _did_you_mean(place.text, expected.split("'")[1::2])
    return _WORDS[kind].format(**context) if kind in _WORDS else details["msg"]


def _keys_beside(path: yaml_marks.KeyPath) -> list[str]:
    model: type[BaseModel] = Config
    for key in path[:-1]:
        field = model.model_fields.get(str(key))
        kind = field.annotation if field else None
        # What holds keys and is not a section is a track.
        model = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else Pin
    return list(model.model_fields)


def _did_you_mean(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _problems(source: str, text: str, flaws: list[Flaw]) -> Iterator[Problem]:
    lines = text.splitlines()
    for flaw in sorted(flaws, key=lambda flaw: flaw.at):
        line, column = flaw.at
        yield Problem(
            source=source,
            message=flaw.message,
            key=".".join(map(str, flaw.path)),
            line=line,
            column=column,
            excerpt=lines[line - 1] if 0 < line <= len(lines) else "",
        )
