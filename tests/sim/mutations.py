"""Does the simulation find things? Each mutation makes the mirror wrong in one place; an invariant must say so.

`python -m tests.sim.mutations [NAME ...]` runs seeds until one is caught, and prints a line for each; `--seeds N` says how many
at most. A mutation is an edit of the source of one function or of a few, whose old text must be there exactly once:
where the code moves, it says so (`test_mutations`).
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from tests.sim.generate import generate
from tests.sim.run import run
from tests.sim.shrink import kinds

SEEDS = 500


@dataclass(frozen=True, slots=True)
class Edit:
    """Other text in a function.

    Attributes:
        where: `module:name`, below `omaha_mirror`; a property's is its getter.
        old: what is there once.
        new: what takes its place.
    """

    where: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is wrong, and by which invariant that is seen."""

    name: str
    seen_by: str
    edits: tuple[Edit, ...]


class Moved(Exception):
    """The text of an edit is not there, or more than once."""


def _mutation(name: str, seen_by: str, *edits: tuple[str, str, str]) -> Mutation:
    return Mutation(name, seen_by, tuple(Edit(*edit) for edit in edits))


WRONG_RANGE = "no range ends with a byte that was not proven"
WRONG_WHOLE = "no success with wrong bytes"
BYTES = "bytes fetched are bound"
LEFT = "nothing is left"
KEPT = "nothing wrong is kept"
POLICY = "an answer never contradicts policy"
LOST = "no event is lost"
OFFER = "what is offered is what upstream has"
TWICE = "no event is counted twice"

MUTATIONS = (
    _mutation(
        "the last operation is not proven",
        WRONG_RANGE,
        (
            "payload.operation_digests:OperationDigests._judge",
            "if digest == operation.sha256:",
            "if digest == operation.sha256 or at == len(self._waiting):",
        ),
    ),
    _mutation(
        "files are not synced",
        KEPT,
        ("state_file:sync", "(os.fdatasync if data_only else os.fsync)(fd)", "pass"),
    ),
    _mutation(
        "folders are not synced",
        POLICY,
        ("state_file:sync_folder", "return sync(fd)", "return True"),
    ),
    _mutation(
        "a blob gets its name before its bytes are synced",
        KEPT,
        ("cache.draft:DiskDraft.commit", "sync(self.file.fileno())", "pass"),
    ),
    _mutation(
        "validators are not compared",
        WRONG_WHOLE,
        (
            "upstream.resume:judge",
            "if validator is not None and not _continues(status, ranged, validator, found):",
            "if False:",
        ),
    ),
    _mutation(
        "the journal is written after the data left",
        BYTES,
        (
            "cache.draft:DiskDraft.write",
            "self._append([written_line(start, offset, crc)])",
            'self._late = getattr(self, "_late", b"") + written_line(start, offset, crc)',
        ),
        (
            "cache.draft:DiskDraft.record",
            "sync(self.file.fileno(), data_only=True)",
            'self._append([getattr(self, "_late", b"")]); self._late = b""',
        ),
    ),
    _mutation(
        "a reservation is not given back",
        LEFT,
        ("cache.fill_context:FillContext.release", "self.ledger.release(key)", "pass"),
    ),
    _mutation(
        "a waiter is not woken",
        "who can go on is woken",
        (
            "cache.waiters:Waiters.notify",
            "if (over or reader.is_cut",
            "if False and (over or reader.is_cut",
        ),
    ),
    _mutation(
        "the window of 416 is forgotten",
        WRONG_WHOLE,
        (
            "cache.failures:Failures.is_resume_unsafe",
            "return record is not None and",
            "return False and",
        ),
    ),
    _mutation(
        "the head of a payload counts as completable",
        WRONG_RANGE,
        (
            "packages.payload_prover:PayloadProver._ruling",
            "(0 if self._is_known_right else layout.head, layout.tail)",
            "(0, layout.tail)",
        ),
    ),
    _mutation(
        "the trickle gives the last byte",
        WRONG_RANGE,
        ("cache.waiters:Waiters._trickle", "state.size - 1,", "state.size,"),
        ("cache.waiters:Waiters._trickle", "self._last(reader),", "reader.stop,"),
    ),
    _mutation(
        "a 200 is written at the offset that was asked for",
        BYTES,
        (
            "upstream.resume:judge",
            "first, total = 0, content_length(headers)",
            "first, total = start, content_length(headers)",
        ),
    ),
    _mutation(
        "two fills of one key",
        BYTES,
        (
            "cache.cache:Cache._look_up",
            "if fill is not None and not fill.joinable(offset):",
            "if fill is not None:",
        ),
    ),
    _mutation(
        "sizes are not compared",
        OFFER,
        ("upstream.resume:judge", "if None not in (total, size) and total != size:", "if False:"),
    ),
    _mutation(
        "a reader that was cut goes on",
        WRONG_WHOLE,
        (
            "cache.reader:Reader._edge",
            'raise GenerationEnded("the bytes sent so far cannot be continued")',
            "pass",
        ),
        (
            "cache.reader:Reader._edge",
            "if self.offset > self.start:\n                raise\n",
            "pass\n",
        ),
    ),
    _mutation(
        "holds are not read again after a restart",
        POLICY,
        ("policy.override_files:recover", "good, damaged = _both(paths)", "good, damaged = [], {}"),
    ),
    _mutation(
        "an entry of the outbox is sent and not marked",
        TWICE,
        ("upstream.segments:Segments.write", "if last > done:", "if True:"),
        ("upstream.segments:Segments.write", "if self._last and done > self._done:", "if False:"),
    ),
    _mutation(
        "an outage counts as a refusal",
        LOST,
        (
            "upstream.outbox:is_refusal",
            "return 400 <= error.status < 500",
            "return 400 <= error.status < 600",
        ),
    ),
    _mutation(
        "nothing of a growing blob is believed after a restart",
        BYTES,
        ("cache.draft:DiskDraft.__init__", "self._lines()", "[]"),
    ),
    _mutation(
        "a fill does not close its file",
        LEFT,
        ("cache.fill:close", "draft.close()\n", "pass\n"),
    ),
)


@contextmanager
def applied(mutation: Mutation) -> Iterator[None]:
    """Have the mirror be wrong like that. Raises Moved."""
    texts: dict[FunctionType, str] = {}
    for edit in mutation.edits:
        function = _function(edit.where)
        text = texts.get(function) or textwrap.dedent(inspect.getsource(function))
        if text.count(edit.old) != 1:
            raise Moved(
                f"{mutation.name}: {edit.where} has {text.count(edit.old)} times {edit.old!r}"
            )
        texts[function] = text.replace(edit.old, edit.new)
    with ExitStack() as stack:
        for function, text in texts.items():
            stack.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = _compiled(function, text).__code__
        yield


def _function(where: str) -> FunctionType:
    module, _, path = where.partition(":")
    found: Any = importlib.import_module(f"omaha_mirror.{module}")
    for name in path.split("."):
        found = inspect.getattr_static(found, name, None)
    found = inspect.unwrap(getattr(found, "fget", found))
    if not isinstance(found, FunctionType):
        raise Moved(f"{where} is no function")
    return found


def _compiled(function: FunctionType, text: str) -> FunctionType:
    """The function that a text defines, with the names of the one that it replaces."""
    made: dict[str, Any] = {}
    lines = "\n" * (function.__code__.co_firstlineno - 1)
    exec(compile(lines + text, function.__code__.co_filename, "exec"), function.__globals__, made)
    found = inspect.unwrap(made[function.__name__])
    assert isinstance(found, FunctionType)
    return found


def caught(mutation: Mutation, seeds: range) -> tuple[int, list[str]] | None:
    """The first seed that shows a mutation, and what it says; None where none does."""
    for seed in seeds:
        schedule = generate(seed)
        with applied(mutation):
            problems = run(schedule).problems
        if problems and kinds(problems) - kinds(run(schedule).problems):
            return seed, problems
    return None


def main() -> int:
    """Exit code 1: one survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a part of the name; all if none")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many are tried at most")
    parser.add_argument("--why", action="store_true", help="say what was seen, too")
    given = parser.parse_args()
    names: Sequence[str] = given.names or [""]
    survived = 0
    for mutation in MUTATIONS:
        if any(name in mutation.name for name in names):
            found = caught(mutation, range(given.seeds))
            survived += found is None
            verdict = "SURVIVED" if found is None else f"caught at seed {found[0]}"
            print(f"{mutation.name}: {verdict}", flush=True)
            if found is not None and given.why:
                print(*(f"  {problem}" for problem in found[1][:3]), sep="\n", flush=True)
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
