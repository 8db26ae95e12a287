"""The circuit breaker of relayed checks: for all machines, for the machines behind one address, and for one machine.

- If connecting fails, it opens for all for 15 s; then one check at a time goes up until one is answered.
- An HTTP error or a time-out may concern one machine alone: it opens for this machine.
- If three machines in a row fail within a minute, it opens for all, or for their address if they share one.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog

from omaha_mirror.upstream.errors import Unreachable, UpstreamError
from omaha_mirror.upstream.outbox import is_refusal

REST = 15.0
"""Seconds for which it stays open."""
IN_A_ROW, WITHIN = 3, 60.0
"""Failed machines in a row, within so many seconds, that open it."""
MANY = 4096
"""Stored machines, and stored addresses."""
LOG = structlog.get_logger(__name__)

_Value = TypeVar("_Value")


class Resting(Exception):
    """The breaker is open; the message says why."""


class Breaker:
    """Lets checks pass, or raises `Resting`.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all = _Gate(clock, "")
        self._addresses: OrderedDict[str, _Gate] = OrderedDict()
        self._machines: OrderedDict[str, tuple[float, str]] = OrderedDict()

    @contextmanager
    def attempt(self, machine: str, address: str) -> Iterator[None]:
        """Send a check within this context; its result changes the state.

        Args:
            machine: key of the machine; empty for one without an id.
            address: of the machine; empty if unknown.

        Raises:
            Resting: the breaker is open.
        """
        until, why = self._machines.get(machine, (0.0, ""))
        if self._clock() < until:
            raise Resting(f"upstream is not asked for this machine at the moment: {why}")
        gates = [self._all] if not address else [self._all, self._of(address)]
        for gate in gates:
            gate.look()
        probing = [gate.enter() for gate in gates]
        try:
            yield
        except (UpstreamError, TimeoutError) as error:
            if isinstance(error, UpstreamError) and is_refusal(error):
                self._answered(gates)
            else:
                self._failed(gates, machine, address, error)
            raise
        except BaseException:
            for gate, before in zip(gates, probing, strict=True):
                gate.undo(before)
            raise
        else:
            self._answered(gates)

    def _answered(self, gates: list[_Gate]) -> None:
        for gate in gates:
            gate.close()

    def _failed(
        self, gates: list[_Gate], machine: str, address: str, error: UpstreamError | TimeoutError
    ) -> None:
        trouble = str(error) or "it did not answer in time"
        if isinstance(error, Unreachable):
            for gate in gates[1:]:
                gate.close()
            self._all.open(trouble, connecting=True)
            return
        if machine:
            _put(self._machines, machine, (self._clock() + REST, trouble))
        if not self._all.failing:
            LOG.warning("upstream did not answer the check of a machine", why=trouble)
        for gate in gates:
            gate.failed(machine, address, trouble)

    def _of(self, address: str) -> _Gate:
        gate = self._addresses.get(address) or _Gate(self._clock, address)
        _put(self._addresses, address, gate)
        return gate


class _Gate:
    """The state for all machines, or for one address."""

    def __init__(self, clock: Callable[[], float], address: str) -> None:
        self._clock = clock
        self._address = address
        self._again: float | None = None
        """When the next check may go up; None: all may; infinite: one is under way."""
        self._connecting = False
        self._row: list[tuple[float, str, str]] = []
        self._trouble = ""

    @property
    def closed(self) -> bool:
        return self._again is None

    @property
    def failing(self) -> bool:
        return bool(self._row) or not self.closed

    def look(self) -> None:
        """Raises Resting."""
        if self._again is not None and self._clock() < self._again:
            raise Resting(f"upstream is not asked at the moment: {self._trouble}")

    def enter(self) -> float | None:
        """Begin a check; gives the argument of `undo`, for one without a result."""
        before = self._again
        if before is not None:
            self._again = math.inf
        return before

    def undo(self, before: float | None) -> None:
        if before is not None and self._again == math.inf:
            self._again = before

    def close(self) -> None:
        if self._again is not None and not self._address:
            LOG.info("upstream answers again")
        self._again, self._row = None, []

    def open(self, trouble: str, *, connecting: bool) -> None:
        if self._again is None:
            LOG.warning(
                "upstream does not answer; machines get their last answer",
                **({"client": self._address} if self._address else {}),
                why=trouble,
            )
        self._again, self._trouble, self._connecting = self._clock() + REST, trouble, connecting
        self._row = []

    def failed(self, machine: str, address: str, trouble: str) -> None:
        """A check that was connected got no valid answer."""
        now = self._clock()
        if self._again is not None and not self._connecting:
            self.open(trouble, connecting=False)
            return
        # The server accepted a connection.
        self._again = None
        self._row = [item for item in self._row if item[0] > now - WITHIN and item[1] != machine]
        self._row.append((now, machine, address))
        addresses = {item[2] for item in self._row}
        alone = bool(address) and not self._address and len(addresses) == 1
        if len(self._row) >= IN_A_ROW and not alone:
            self.open(trouble, connecting=False)


def _put(known: OrderedDict[str, _Value], key: str, value: _Value) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > MANY:
        known.popitem(last=False)
