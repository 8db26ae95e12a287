"""Read the config in one pass that finds all errors, each with its place."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from omaha_mirror.config import environment, explain, yaml_marks
from omaha_mirror.config.errors import ConfigError, Problem
from omaha_mirror.config.model import Config
from omaha_mirror.config.yaml_marks import Document, Flaw

MAX_BYTES = 64 * 1024


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The config in a file and in the environment; without both, the defaults.

    A variable of the environment overrides the file (see `environment`). Relative paths are
    relative to the folder of the file. A directory of the cache or the state that is not
    configured comes from $CACHE_DIRECTORY and $STATE_DIRECTORY (systemd.exec(5)), else from the XDG base
    directories.

    Raises:
        ConfigError: the config cannot be read or used; it holds all errors.
    """
    file = yaml_marks.read(str(path or "config"), _read(path) if path else "")
    variables = environment.documents(environ)
    data = {} if file.data is None else file.data
    if not isinstance(data, dict):
        file.flaws.append(Flaw((), (1, 1), "the file must be a mapping: key: value lines"))
    elif data or not file.flaws:
        folder = path.parent.absolute() if path else Path.cwd()
        try:
            config = Config.model_validate(_whole(data, variables, environ), context=folder)
        except ValidationError as error:
            explain.note(error, [file, *variables])
    problems = [problem for each in (file, *variables) for problem in _problems(each)]
    problems += environment.unknown(environ)
    if problems:
        raise ConfigError(tuple(problems))
    return config


def load_to_serve(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The same for a mirror, which asks upstream: the environment's proxies must be usable, too. Raises ConfigError."""
    config = load(path, environ)
    if problems := environment.wrong_proxies(config, environ):
        raise ConfigError(tuple(problems))
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


def _whole(
    data: dict[str, Any], variables: list[Document], environ: Mapping[str, str]
) -> dict[str, Any]:
    for variable in variables:
        data = environment.put(data, environment.VARIABLES[variable.source], variable.data)
    return environment.with_directories(data, environ)


def _problems(document: Document) -> Iterator[Problem]:
    """The errors of a document, in its order."""
    lines = document.text.splitlines()
    for flaw in sorted(document.flaws, key=lambda flaw: flaw.at):
        line, column = flaw.at
        yield Problem(
            source=document.source,
            message=flaw.message,
            key=".".join(map(str, flaw.path)),
            line=0 if document.root else line,
            column=column,
            excerpt=lines[line - 1] if 0 < line <= len(lines) else "",
        )
