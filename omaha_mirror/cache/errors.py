"""The errors of the cache, one class for each way to act on them."""

from __future__ import annotations

import errno

from omaha_mirror.aio.tasks import DEFECT, Foreseen

UNREADABLE = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA, errno.ESTALE})
"""The errors of reading a file that mean that its bytes are lost."""


class CacheError(Foreseen):
    """Base of all errors of the cache; `str()` is one sentence for people."""


class SourceError(CacheError):
    """Fetching failed."""


class SourceFailed(SourceError):
    """Fetching failed for now: another try may succeed.

    Attributes:
        retry_after: seconds to wait, as upstream says (RFC 9110, 10.2.3), or None.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SourceStalled(SourceFailed):
    """No byte arrives at present; the connection may be alive."""


class SourceGone(SourceError):
    """Upstream has no such file (404 or 410)."""


class SourceRefused(SourceError):
    """This must not or cannot be fetched: another try changes nothing."""


class GenerationEnded(CacheError):
    """The bytes fetched so far will never become the blob that was expected."""


class SourceChanged(GenerationEnded):
    """Upstream now has another file under the same name (validator or size differs)."""


class DigestMismatch(GenerationEnded):
    """All bytes are there and their digest is wrong."""


class Untrusted(GenerationEnded):
    """The digest is right, but the blob must not be served: no trusted key has signed it, for example.

    Attributes:
        terms: that it does not meet; see `Provers.terms`.
    """

    def __init__(self, message: str, terms: str) -> None:
        super().__init__(message)
        self.terms = terms


class Damaged(CacheError):
    """The file of a proven blob is damaged: it is too short, no file, or cannot be read."""


class Lost(CacheError):
    """The bytes cannot be read any more, and none that was sent is wrong: a reader looks the blob up again at the same offset."""


class Unreadable(CacheError):
    """The disk does not give back what a fill wrote: whoever got nothing yet goes on with a fill that needs no disk."""


class ResumeUnsafe(CacheError):
    """Wrong bytes of this blob were sent lately: a client that has some must begin again at 0."""


class CoolingDown(CacheError):
    """Several rounds in a row ended wrong: the blob is not fetched for a while."""


class Distrusted(CoolingDown):
    """The blob was found untrusted: it is not fetched again under the same terms."""


class NotInTime(CacheError):
    """No byte was released for as long as a client can wait."""


class NoSpace(CacheError):
    """The blob cannot be kept."""


class NeverFits(NoSpace):
    """Larger than the whole cache may be."""


class NoSpaceNow(NoSpace):
    """Everything that could be evicted is in use or pinned."""


class InUse(CacheError):
    """The blob cannot be removed now: it is being read, filled or verified."""


class Stopping(CacheError):
    """The cache is being closed."""


class Defect(CacheError):
    """An unexpected error; the log has its traceback."""

    def __init__(self) -> None:
        super().__init__(DEFECT)


def is_full(error: OSError) -> bool:
    """Whether a file system, or this user's quota of it, is full."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def is_unreadable(error: OSError) -> bool:
    """Whether the bytes of a file are lost, as far as the disk can tell."""
    return error.errno in UNREADABLE
