"""Logs: structlog, readable on a terminal, JSON lines under systemd.

All of it goes to standard error by way of `standard_error`, which neither waits nor fails: our own lines, at the cost of
making them; what libraries say through the standard logging, warnings included; and crashes, as a line with its traceback.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Literal, ParamSpec, cast

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from omaha_mirror.observability import standard_error
from omaha_mirror.observability.standard_error import WRITER
from omaha_mirror.text import printable

LOG = structlog.get_logger(__name__)
LONGEST = 32 * 1024
"""Characters of a line; values are cut until it has no more."""
CUTS = (8192, 1024, 128)
"""Characters that a value keeps, tried one after the other."""

STAMPED: tuple[Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper("iso", utc=True),
)

P = ParamSpec("P")
Format = Literal["auto", "json", "console"]


def set_up_logging(form: Format, level: str) -> None:
    """Send all logs to standard error in one form; `auto` is readable on a terminal and JSON elsewhere."""
    line = _Line(_renderer(form))
    structlog.configure(
        processors=[*STAMPED, line],
        logger_factory=_Lines,
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    handler = _Handler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=STAMPED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, line],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for chatty in ("asyncio", "alembic", "aiosqlite"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    WRITER.notice = partial(_notice, line)
    if standard_error.is_taken_over():
        _tell_crashes()


def _renderer(form: Format) -> Processor:
    terminal = os.isatty(standard_error.DESCRIPTOR)
    if form == "json" or (form == "auto" and not terminal):
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=terminal and not os.environ.get("NO_COLOR"),
        exception_formatter=structlog.dev.plain_traceback,
    )


def _notice(line: _Line, lines: int) -> str:
    """The line that says how many lines were lost."""
    event: EventDict = {"event": "lines of the log were lost", "lines": lines}
    for stamp in STAMPED:
        event = cast(EventDict, stamp(None, "warning", event))
    return f"{line(None, 'warning', event)}\n"


def begin_to_queue() -> None:
    """Write to standard error in a thread of its own from now on."""
    WRITER.begin()


def tell(observe: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call a method of an observer; an error in it is logged and goes no further."""
    try:
        observe(*args, **kwargs)
    except Exception:
        LOG.exception("a report failed")


class _Lines:
    """The logger behind structlog: takes finished lines."""

    def __init__(self, *_: object) -> None: ...

    def msg(self, line: str) -> None:
        """Write a line."""
        WRITER.put(line + "\n")

    debug = info = warning = error = critical = msg


class _Line:
    """Renders an event as a line of bounded length; never raises."""

    def __init__(self, renderer: Processor) -> None:
        self._renderer = renderer

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        try:
            event = structlog.processors.format_exc_info(logger, method, event)
            line = self._render(logger, method, event)
            for longest in CUTS:
                if len(line) <= LONGEST:
                    break
                line = self._render(logger, method, _shortened(event, longest))
            return line[:LONGEST]
        except Exception as error:
            kept = {key: event[key] for key in ("level", "timestamp") if key in event}
            name = event.get("event")
            kept["of"] = printable(name) if isinstance(name, str) else ""
            instead = {"event": "a line cannot be made", "why": type(error).__name__, **kept}
            return self._render(logger, method, instead)

    def _render(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        return str(self._renderer(logger, method, dict(event)))


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

    def emit(self, record: logging.LogRecord) -> None:
        try:
            WRITER.put(self.format(record) + "\n")
        except Exception as error:  # arguments that do not fit the text, for one
            LOG.error("a library's line cannot be made", logger=record.name, why=str(error))


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
