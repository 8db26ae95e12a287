"""The scripted upstream in a thread of its own, for tests that run the mirror as a process."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from tests.support.upstream import Fault, Gate, Request, Upstream

T = TypeVar("T")
PATIENCE = 30.0


class ThreadedUpstream:
    """An `Upstream` on its own event loop; a context manager with plain methods.

    The commonest have wrappers here; for the others there are `do` and `run`:

        upstream.do(lambda server: server.throttle(1_000_000))
        upstream.run(lambda server: server.refuse())
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._upstream = Upstream()

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(lambda upstream: upstream.__aenter__())
        self.origin = self._upstream.origin
        return self

    def __exit__(self, *_: object) -> None:
        self.run(lambda upstream: upstream.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def do(self, call: Callable[[Upstream], T]) -> T:
        """Call a function with the server, on its loop."""

        async def called() -> T:
            return call(self._upstream)

        return self._wait(called())

    def run(
        self, call: Callable[[Upstream], Coroutine[Any, Any, T]], timeout: float = PATIENCE
    ) -> T:
        """Run a coroutine function with the server, on its loop, to its end."""
        return self._wait(call(self._upstream), timeout)

    def url(self, path: str) -> str:
        return self.origin + path

    def put(self, path: str, body: bytes) -> None:
        self.do(lambda upstream: upstream.put(path, body))

    def fault(self, path: str, fault: Fault) -> None:
        self.do(lambda upstream: upstream.fault(path, fault))

    def hold(self, path: str, at: int | None = None) -> "ThreadedGate":
        return ThreadedGate(self, self.do(lambda upstream: upstream.hold(path, at)))

    def requests(self, path: str, method: str | None = None) -> list[Request]:
        return self.do(lambda upstream: upstream.requests(path, method))

    def bytes_sent(self, path: str) -> int:
        return self.do(lambda upstream: upstream.bytes_sent(path))

    def until(self, holds: Callable[[Upstream], bool], timeout: float = PATIENCE) -> None:
        """Wait for something in the books, which is asked again after each change of them."""
        self.run(lambda upstream: upstream.until(lambda: holds(upstream)), timeout)

    def _wait(self, coroutine: Coroutine[Any, Any, T], timeout: float = PATIENCE) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)


@dataclass(frozen=True, slots=True)
class ThreadedGate:
    """A `Gate` of a `ThreadedUpstream`."""

    upstream: ThreadedUpstream
    gate: Gate

    def reached(self, timeout: float = PATIENCE) -> None:
        self.upstream.run(lambda _: self.gate.reached(), timeout)

    def open(self) -> None:
        self.upstream.do(lambda _: self.gate.open())
