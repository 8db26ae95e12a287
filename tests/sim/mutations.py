"""Does the simulation find things? Each mutation makes the mirror wrong in one place, and must break one invariant.

`python -m tests.sim.mutations [NAME ...]` runs seeds until a mutation is caught, and prints a line for each. The old text of
an edit must be in its function exactly once: where the code has moved, `test_mutations` fails.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from tests.sim.books import Invariant
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
    """What is wrong, which invariant that breaks, and the edits that make it so."""

    name: str
    breaks: Invariant
    edits: tuple[Edit, ...]


class Moved(Exception):
    """The text of an edit is not there, or more than once."""


_EDIT = re.compile(r"  (\S+)\n((?:  - .*\n)+)((?:  \+ .*\n)+)")


def _read(block: str) -> Mutation:
    """A mutation as they are written below: its name, what it breaks, and its edits as diffs."""
    name, breaks, edits = block.split("\n", 2)
    return Mutation(
        name,
        Invariant[breaks.split()[1]],
        tuple(
            Edit(where, _lines(old), _lines(new)) for where, old, new in _EDIT.findall(edits + "\n")
        ),
    )


def _lines(diff: str) -> str:
    return "\n".join(line[4:] for line in diff.splitlines())


MUTATIONS = tuple(
    map(
        _read,
        r"""
the last operation is not proven
  breaks RANGE
  payload.operation_digests:OperationDigests._judge
  - if digest == operation.sha256:
  + if digest == operation.sha256 or at == len(self._waiting):

files are not synced
  breaks KEPT
  state_file:sync
  - (os.fdatasync if data_only else os.fsync)(fd)
  + pass

folders are not synced
  breaks POLICY
  state_file:sync_folder
  - return sync(fd)
  + return True

a blob gets its name before its bytes are synced
  breaks KEPT
  cache.draft:DiskDraft.commit
  - sync(self.file.fileno())
  + pass

validators are not compared
  breaks WHOLE
  upstream.resume:judge
  - if validator is not None and not _continues(status, ranged, validator, found):
  + if False:

the journal is written after the data left
  breaks FETCHED
  cache.draft:DiskDraft.write
  - self._append([written_line(start, offset, crc)])
  + self._late = getattr(self, "_late", b"") + written_line(start, offset, crc)
  cache.draft:DiskDraft.record
  - sync(self.file.fileno(), data_only=True)
  + self._append([getattr(self, "_late", b"")]); self._late = b""

a reservation is not given back
  breaks LEFT
  cache.fill_context:FillContext.release
  - self.ledger.release(key)
  + pass

a waiter is not woken
  breaks WOKEN
  cache.waiters:Waiters.notify
  - if (over or reader.is_cut
  + if False and (over or reader.is_cut

the window of 416 is forgotten
  breaks WHOLE
  cache.failures:Failures.is_resume_unsafe
  - return record is not None and
  + return False and

the head of a payload counts as completable
  breaks RANGE
  packages.payload_prover:PayloadProver._ruling
  - (0 if self._is_known_right else layout.head, layout.tail)
  + (0, layout.tail)

the trickle gives the last byte
  breaks RANGE
  cache.waiters:Waiters._trickle
  - state.size - 1,
  + state.size,
  cache.waiters:Waiters._trickle
  - self._last(reader),
  + reader.stop,

a 200 is written at the offset that was asked for
  breaks FETCHED
  upstream.resume:judge
  - first, total = 0, content_length(headers)
  + first, total = start, content_length(headers)

two fills of one key
  breaks FETCHED
  cache.cache:Cache._look_up
  - if fill is not None and not fill.joinable(offset):
  + if fill is not None:

sizes are not compared
  breaks OFFER
  upstream.resume:judge
  - if None not in (total, size) and total != size:
  + if False:

a reader that was cut goes on
  breaks WHOLE
  cache.reader:Reader._edge
  - raise GenerationEnded("the bytes sent so far cannot be continued")
  + pass
  cache.reader:Reader._edge
  - if self.offset > self.start:
  -                 raise
  + pass

holds are not read again after a restart
  breaks POLICY
  policy.override_files:recover
  - good, damaged = _both(paths)
  + good, damaged = [], {}

an entry of the outbox is sent and not marked
  breaks TWICE
  upstream.segments:Segments.write
  - if last > done:
  + if True:
  upstream.segments:Segments.write
  - if self._last and done > self._done:
  + if False:

an outage counts as a refusal
  breaks LOST
  upstream.outbox:is_refusal
  - return 400 <= error.status < 500
  + return 400 <= error.status < 600

nothing of a growing blob is believed after a restart
  breaks FETCHED
  cache.draft:DiskDraft.__init__
  - self._lines()
  + []

a fill does not close its file
  breaks LEFT
  cache.fill:close
  - draft.close()
  + pass

a client that asks again for what it lacks of the metadata gets what comes after it
  breaks ABORT
  web.sending:pause_at
  - return metadata_size if is_retry and metadata_size < part.stop else None
  + return None
  web.sending:in_one_piece
  - return data if len(data) == lacking else b""
  + return b""

Content-Range names one byte more
  breaks AS_ASKED
  http_ranges:ByteRange.content_range
  - {self.stop - 1}
  + {self.stop}

the pause after a failure does not end
  breaks ENDS
  upstream.resume:backoff
  - return max(pause, min(retry_after or 0.0, MAX_HONOURED))
  + return 1e6

files are read and written on the event loop
  breaks LOOP
  aio.tasks:in_worker
  - return await BLOBS.call(function, *args, **kwargs)
  + return function(*args, **kwargs)

a disk that fails is not expected
  breaks DEFECT
  aio.clock:ClockFile.save
  - except OSError as error:
  + except ValueError as error:
""".strip().split("\n\n"),
    )
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
    """The first seed in which a mutation breaks its invariant, and the problems of that; None where none does."""
    for seed in seeds:
        schedule, broken = generate(seed), mutation.breaks
        with applied(mutation):
            problems = run(schedule).problems
        if broken in kinds(problems) and broken not in kinds(run(schedule).problems):
            return seed, [problem for problem in problems if problem.startswith(broken)]
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
