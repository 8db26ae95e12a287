"""What a fill is given by the cache that it belongs to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omaha_mirror.cache import events
from omaha_mirror.cache.blob import Proof
from omaha_mirror.cache.errors import GenerationEnded, Lost
from omaha_mirror.cache.fetch_scheduler import FetchScheduler
from omaha_mirror.cache.limits import Limits
from omaha_mirror.cache.store import Draft

if TYPE_CHECKING:
    from omaha_mirror.cache.fill import Fill


@dataclass(frozen=True, slots=True)
class Setting:
    """Bounds, and what to tell and to ask.

    Attributes:
        limits: its bounds.
        scheduler: what it shares with the other fills.
        hook: told what happens.
        open_draft: makes room and opens the place for the bytes.
        make_room: frees room on a disk that is fuller than it was; whether anything was freed.
        wrong: told first when the generation ended, or its bytes were lost: why, and whether some of it have left that
            may be wrong.
        tainted: told that wrong bytes left, though the generation goes on.
        proven: told first that all of it is right.
        mending: told that a blob which is being proven again has wrong bytes.
        damaged: told that a blob that it proved cannot be read any more, and why.
        repairs: whether the blob was here before.
        picky: whether all bytes must be of one generation although a digest is known: those of several were wrong together,
            and nothing said which.
        pause: seconds to wait before it begins: passing trouble has to have passed.
    """

    limits: Limits
    scheduler: FetchScheduler
    hook: events.Hook
    open_draft: Callable[[Fill], Awaitable[Draft]]
    make_room: Callable[[], Awaitable[bool]]
    wrong: Callable[[GenerationEnded | Lost, bool], None]
    tainted: Callable[[], None]
    proven: Callable[[Proof], None]
    mending: Callable[[], None]
    damaged: Callable[[str], None]
    repairs: bool = False
    picky: bool = False
    pause: float = 0.0
