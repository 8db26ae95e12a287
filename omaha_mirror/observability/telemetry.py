"""Logs: structlog's loggers, lines that are readable on a terminal, and JSON under systemd.

All of it goes to standard error by way of `standard_error`, which neither waits nor fails: our own lines, at the cost of
making them; what libraries say through the standard logging, warnings included; and crashes, as a line with its traceback.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache, partial
from json import JSONEncoder
from json.encoder import encode_basestring_ascii as quoted
from types import TracebackType
from typing import Literal, ParamSpec

import structlog
from structlog.types import EventDict

from omaha_mirror.observability import standard_error
from omaha_mirror.observability.standard_error import WRITER
from omaha_mirror.text import printable

LOG = structlog.get_logger(__name__)
LONGEST = 32 * 1024
"""Characters of a line; values are cut until it has no more."""
CUTS = (8192, 1024, 128)
"""Characters that a value keeps, tried one after the other."""
CALLED_WITH = ("exc_info", "stack_info")
"""What a library's line can have besides its text."""
LEVELS = {"warn": "warning", "exception": "error"}
"""Names of levels by those of the methods that have another."""

HEAD = frozenset({"event", "level", "timestamp", "exception"})
"""Keys that are no values of an event."""
SPECIAL = frozenset(" ='\"")
COLOURS = ("\x1b[2m", "\x1b[1m", "\x1b[36m", "\x1b[35m", "\x1b[0m")
"""For the time, what happened, names and values, and the end of each."""
NO_COLOURS = ("",) * len(COLOURS)
LEVEL_COLOURS = {
    "debug": "\x1b[32m\x1b[1m",
    "info": "\x1b[32m\x1b[1m",
    "warning": "\x1b[33m\x1b[1m",
    "error": "\x1b[31m\x1b[1m",
    "critical": "\x1b[31m\x1b[1m",
}

P = ParamSpec("P")
Format = Literal["auto", "json", "console"]
Render = Callable[[EventDict], str]


def set_up_logging(form: Format, level: str) -> None:
    """Send all logs to standard error in one form; `auto` is readable on a terminal and JSON elsewhere."""
    line = _Line(_renderer(form))
    structlog.configure(wrapper_class=_logger(level, line), logger_factory=str)
    root = logging.getLogger()
    root.handlers[:] = [_Handler(line)]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for chatty in ("asyncio", "alembic", "aiosqlite"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    WRITER.notice = partial(_notice, line)
    if standard_error.is_taken_over():
        _tell_crashes()


def _renderer(form: Format) -> Render:
    terminal = os.isatty(standard_error.DESCRIPTOR)
    if form == "json" or (form == "auto" and not terminal):
        return _json
    return partial(_console, colours=terminal and not os.environ.get("NO_COLOR"))


def _notice(line: _Line, lines: int) -> str:
    """The line that says how many lines were lost."""
    return line("warning", {"event": "lines of the log were lost", "lines": lines})


def begin_to_queue() -> None:
    """Write to standard error in a thread of its own from now on."""
    WRITER.begin()


def tell(observe: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call a method of an observer; an error in it is logged and goes no further."""
    try:
        observe(*args, **kwargs)
    except Exception:
        LOG.exception("a report failed")


def _logger(level: str, line: _Line) -> type[structlog.typing.FilteringBoundLogger]:
    """Structlog's logger without its chain of processors: what passes the level becomes a line at once."""

    class Logger(structlog.make_filtering_bound_logger(level)):  # type: ignore[misc]  # a class made by a function
        def _proxy_to_logger(self, method: str, event: str, /, **values: object) -> None:
            values["event"] = event
            WRITER.put(line(method, values))

    return Logger


class _Line:
    """Makes a line of bounded length of an event; never raises."""

    def __init__(self, render: Render) -> None:
        self._render = render

    def __call__(self, method: str, event: EventDict) -> str:
        event["level"] = LEVELS.get(method, method)
        event["timestamp"] = _timestamp(time.time_ns() // 1_000_000)
        try:
            if "exc_info" in event:
                event = structlog.processors.format_exc_info(None, method, event)
            line = self._render(event)
            for longest in CUTS:
                if len(line) <= LONGEST:
                    break
                line = self._render(_shortened(event, longest))
            return f"{line[:LONGEST]}\n"
        except Exception as error:
            kept = {key: event[key] for key in ("level", "timestamp")}
            name = event.get("event")
            kept["of"] = printable(name) if isinstance(name, str) else ""
            instead = {"event": "a line cannot be made", "why": type(error).__name__, **kept}
            return f"{self._render(instead)}\n"


@lru_cache(1)
def _timestamp(milliseconds: int) -> str:
    """A time since the epoch by ISO 8601: `2026-11-23T20:21:00.123Z`."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(event: EventDict) -> str:
    """One object in ASCII; what JSON has no type for is there by its `repr`."""
    pairs = [
        f'"{key}": {quoted(value) if type(value) is str else _encoded(value)}'
        for key, value in event.items()
    ]
    return f"{{{', '.join(pairs)}}}"


_encoded = JSONEncoder(default=repr).encode


def _console(event: EventDict, *, colours: bool) -> str:
    """Text for people: a time, a level, what happened, and its values by their names; a traceback follows it."""
    dim, bold, name, value, end = COLOURS if colours else NO_COLOURS
    level, after = event["level"], event.get("exception")
    strength = LEVEL_COLOURS.get(level, "") if colours else ""
    head = f"{dim}{event['timestamp']}{end} [{strength}{level:<9}{end}]"
    what = f"{bold}{_inert(str(event['event'])):<30}{end}"
    keys = sorted(event.keys() - HEAD)
    pairs = [f"{name}{key}{end}={value}{_word(event[key])}{end}" for key in keys]
    line = " ".join([head, what, *pairs]).rstrip()
    return f"{line}\n{_inert(after)}" if after else line


def _word(value: object) -> str:
    """A value as it is, or with quotation marks and escapes where it could be misread."""
    if not isinstance(value, str):
        return _inert(repr(value))
    bare = value.isprintable() and SPECIAL.isdisjoint(value)
    return value if value and bare else repr(value)


def _inert(text: str) -> str:
    """The lines of a text, with nothing that controls a terminal."""
    if text.isprintable():
        return text
    return "\n".join([printable(line, len(line)) for line in text.expandtabs().split("\n")])


def _shortened(event: EventDict, longest: int) -> EventDict:
    """The event with the middle of its long values left out."""
    texts = {key: value if isinstance(value, str) else repr(value) for key, value in event.items()}
    half = longest // 2
    return {
        key: text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"
        for key, text in texts.items()
    }


class _Handler(logging.Handler):
    """Writes what libraries log."""

    def __init__(self, line: _Line) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: EventDict = {"event": record.getMessage()}
        except Exception as error:  # arguments that do not fit the text, for one
            LOG.error("a library's line cannot be made", logger=record.name, why=str(error))
            return
        event.update({key: found for key in CALLED_WITH if (found := getattr(record, key))})
        WRITER.put(self._line(record.levelname.lower(), event))


def _tell_crashes() -> None:
    """Log what ends a thread or cannot be raised anywhere; asyncio logs for itself."""

    def crashed(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        LOG.critical("crashed", exc_info=(kind, error, trace))

    def thread_crashed(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and args.exc_type is not SystemExit:
            LOG.critical("a thread crashed", exc_info=args.exc_value)

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        LOG.error("an error that nobody can handle", exc_info=args.exc_value, where=args.object)

    sys.excepthook, threading.excepthook, sys.unraisablehook = crashed, thread_crashed, unraisable
