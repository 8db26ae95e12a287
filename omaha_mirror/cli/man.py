"""`omaha-mirror man` and `completion`: the manual page and the shells' scripts, made from the declarations."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from omaha_mirror import __version__
from omaha_mirror.cli.exits import MEANINGS
from omaha_mirror.cli.options import DEFAULT_CONFIG

PROGRAM = "omaha-mirror"
SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}

FILES = {
    str(DEFAULT_CONFIG): "The config, unless --config names another.",
    "/var/cache/omaha-mirror": "The packages, when systemd runs the mirror.",
    "/var/lib/omaha-mirror": "The mirror's state, when systemd runs it.",
    "/var/lib/omaha-mirror/admin-token": "The token that the admin listener requires for changes.",
}

ENVIRONMENT = {
    "CACHE_DIRECTORY, XDG_CACHE_HOME": "The directory of packages, unless the config names one.",
    "STATE_DIRECTORY, XDG_STATE_HOME": "The directory of the mirror's state, unless the config names one.",
    "NO_COLOR": "If not empty, output has no colour.",
}


def man() -> None:
    """Print the manual page, as `man -l` reads it."""
    from omaha_mirror.config.environment import VARIABLES

    keys = {name: ".".join(path) for name, path in VARIABLES.items()}
    click.echo("\n".join(page(click.get_current_context().find_root(), keys)))


def completion(shell: str) -> None:
    """Print the script that makes a shell complete commands, options and file names."""
    root = click.get_current_context().find_root().command
    click.echo(SHELLS[shell](root, {}, PROGRAM, "_OMAHA_MIRROR_COMPLETE").source())


def page(root: click.Context, keys: Mapping[str, str]) -> Iterator[str]:
    """The lines of the page, in the macros of groff_man(7).

    Args:
        root: of the program.
        keys: which key of the config each variable of the environment sets.
    """
    about = root.command.get_short_help_str(limit=200).rstrip(".")
    yield f'.TH {PROGRAM.upper()} 1 "" "{PROGRAM} {__version__}"'
    yield ".SH NAME"
    yield rf"{_text(PROGRAM)} \- {_text(about[:1].lower() + about[1:])}"
    yield ".SH SYNOPSIS"
    yield f"{_bold(PROGRAM)} {_usage(root)}"
    yield ".SH OPTIONS"
    yield from _options(root)
    yield ".SH COMMANDS"
    yield from _commands(root, PROGRAM)
    yield ".SH EXIT STATUS"
    yield from _list({str(int(code)): words for code, words in MEANINGS.items()})
    yield ".SH ENVIRONMENT"
    yield from _list(ENVIRONMENT)
    yield ".PP"
    yield _text(
        "Each key of the config has a variable, which overrides the file. Its value is YAML."
    )
    yield from _list({name: f"Sets {key}." for name, key in keys.items()})
    yield ".SH FILES"
    yield from _list(FILES)


def _commands(ctx: click.Context, path: str) -> Iterator[str]:
    """A subsection for each command below a group that does something itself."""
    if not isinstance(ctx.command, click.Group):
        yield f".SS {_bold(path)} {_usage(ctx)}"
        for paragraph in inspect.cleandoc(ctx.command.help or "").split("\n\n"):
            yield ".PP"
            yield _text(" ".join(paragraph.split()))
        yield from _options(ctx)
        return
    for name in ctx.command.list_commands(ctx):
        command = ctx.command.get_command(ctx, name)
        if command is not None and not command.hidden:
            below = click.Context(command, info_name=name, parent=ctx)
            yield from _commands(below, f"{path} {name}")


def _usage(ctx: click.Context) -> str:
    return _text(" ".join(ctx.command.collect_usage_pieces(ctx)))


def _options(ctx: click.Context) -> Iterator[str]:
    options = (each for each in ctx.command.get_params(ctx) if isinstance(each, click.Option))
    records = (option.get_help_record(ctx) for option in options)
    yield from _list(dict(record for record in records if record))


def _list(items: Mapping[str, str]) -> Iterator[str]:
    for name, words in items.items():
        yield ".TP"
        yield _bold(name)
        yield _text(words)


def _bold(text: str) -> str:
    return rf"\fB{_text(text)}\fR"


def _text(text: str) -> str:
    """A line that groff shows as it is."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
