"""An event loop on which many clients that are ready at once keep a new one waiting only briefly."""

from __future__ import annotations

import asyncio
import select
import selectors
from typing import Any, cast

AT_A_TIME = 32
"""Sockets that are looked after before what follows from them is done."""


def fair_loop() -> asyncio.AbstractEventLoop:
    """A loop that takes events a few at a time, oldest first.

    asyncio takes all there are, which may be thousands, and a request needs several rounds: to be accepted, read, handled
    and answered. Each of them would wait for all others' part of the round. The kernel keeps what is ready in order.
    """
    selector = selectors.EpollSelector()
    # There is no other way to say how many: EpollSelector asks for as many events as there are sockets.
    inside = cast(Any, selector)
    inside._selector = _Few(inside._selector)
    return asyncio.SelectorEventLoop(selector)


class _Few:
    """An epoll that gives few events at a time."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self.register, self.unregister, self.modify = epoll.register, epoll.unregister, epoll.modify
        self.fileno, self.close = epoll.fileno, epoll.close

    def poll(self, timeout: float | None = None, _: int = -1) -> list[tuple[int, int]]:
        """See select.epoll."""
        return self._epoll.poll(timeout, AT_A_TIME)
