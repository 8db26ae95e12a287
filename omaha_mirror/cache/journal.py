"""What a restart believes of a growing blob: a header, then a line for each thing that happened.

    {"size": ..., "source": ..., "validator": {...}}    which blob, and which generation of it
    {"start": ..., "stop": ..., "crc32": ...}           bytes that were written
    {"start": ..., "stop": ..., "crc32": null}          bytes that were there before, in a blob that was proven once
    {"dropped": [start, stop]}                          bytes that were wrong; others will come in their place
    {"leaked": true}                                    from here on, bytes left that might be wrong

A line is believed only as far as the data bears it out: a torn line, a lying one, or a data file that was cut costs
that span and nothing else. Where a part of a span is dropped, the rest of it gets lines of its own: its CRC-32 will no
longer be right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from omaha_mirror.cache.intervals import Intervals
from omaha_mirror.cache.prover import Span
from omaha_mirror.cache.source import Validator

Crc = Callable[[int, int], int | None]
"""The CRC-32 of so many bytes of the data at an offset; None where they are not there."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What can be believed.

    Attributes:
        validator: the generation; None where no byte is there.
        spans: bytes that are there.
        bare: those of them that have no CRC-32.
        leaked: whether some left that might be wrong.
    """

    validator: Validator | None = None
    spans: tuple[Span, ...] = ()
    bare: tuple[Span, ...] = ()
    leaked: bool = False


def header(size: int, source: str, validator: Validator) -> bytes:
    """The first line."""
    return line({"size": size, "source": source, "validator": dict(validator)})


def written(start: int, stop: int, crc: int | None) -> bytes:
    """Bytes that were written, or were there before (None)."""
    return line({"start": start, "stop": stop, "crc32": crc})


def dropped(
    start: int, stop: int, spans: Iterable[Span], bare: Intervals, crc: Crc
) -> Iterator[bytes]:
    """Bytes of `spans` that were wrong; those in `bare` have no CRC-32."""
    yield line({"dropped": [start, stop]})
    torn = [span for span in spans if span[0] < stop and start < span[1]]
    for a, b in without(torn, start, stop):
        if a in bare:
            yield written(a, b, None)
        elif (found := crc(a, b - a)) is not None:
            yield written(a, b, found)


def leaked() -> bytes:
    """Bytes left that might be wrong."""
    return line({"leaked": True})


def line(event: object) -> bytes:
    """A line of its own."""
    return json.dumps(event).encode() + b"\n"


def without(spans: Iterable[Span], start: int, stop: int) -> list[Span]:
    """What is left of `spans`."""
    parts = (part for a, b in spans for part in ((a, min(b, start)), (max(a, stop), b)))
    return [(a, b) for a, b in parts if a < b]


def recover(lines: Sequence[bytes], size: int, crc: Crc) -> Recovered:
    """Read a journal of a blob of this size. Raises OSError where its data cannot be read."""
    match [_told(text) for text in lines if text]:
        case [{"size": known, "validator": dict(validator)}, *rest] if known == size:
            spans: list[Span] = []
            bare: list[Span] = []
            has_leaked = False
            for happened in rest:
                match happened:
                    case {"start": int(start), "stop": int(stop), "crc32": int(checksum)}:
                        if 0 <= start < stop <= size and crc(start, stop - start) == checksum:
                            spans.append((start, stop))
                    case {"start": int(start), "stop": int(stop), "crc32": None}:
                        if 0 <= start < stop <= size and crc(stop - 1, 1) is not None:
                            spans.append((start, stop))
                            bare.append((start, stop))
                    case {"dropped": [int(start), int(stop)]}:
                        spans = without(spans, start, stop)
                        bare = without(bare, start, stop)
                    case {"leaked": True} | None:  # None: what cannot be read may have said so
                        has_leaked = True
            if spans:
                return Recovered(validator, tuple(spans), tuple(bare), has_leaked)
    return Recovered()


def _told(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
