"""What is printed: one line about the machine, and Markdown tables."""

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import TypeVar

T = TypeVar("T")


def machine() -> str:
    """What the figures were taken on."""
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()},"
        f" load {load:.1f} at the end; loopback"
    )


def middle(rows: Iterable[T], value: Callable[[T], float]) -> float:
    """The median of a value over the rounds."""
    return median(value(row) for row in rows)


def show(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table under a title, and the machine below it."""
    print(f"\n### {title}\n")
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
    print(f"\n{machine()}", flush=True)
