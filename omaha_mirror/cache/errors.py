"""What can go wrong with cached bytes, one class for each way to act on it."""

from __future__ import annotations

import errno

from omaha_mirror.aio.tasks import DEFECT, Foreseen

UNREADABLE = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA, errno.ESTALE})
"""What reading a file fails with where its bytes are lost, on its disk or behind its back."""


class CacheError(Foreseen):
    """Base of all errors of the cache; `str()` is one sentence for people."""


class SourceError(CacheError):
    """Fetching failed; an operator must look at the upstream or the line."""


class SourceFailed(SourceError):
    """Passing trouble: another try may go well.

    Attributes:
        retry_after: seconds that upstream asked us to wait, or None.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SourceStalled(SourceFailed):
    """Nothing comes at present, though the connection may be alive."""


class SourceGone(SourceError):
    """Upstream says definitely that there is no such file (404 or 410)."""


class SourceRefused(SourceError):
    """We may not or cannot fetch this at all: trying again changes nothing."""


class GenerationEnded(CacheError):
    """The bytes fetched so far will never become the blob that was expected."""


class SourceChanged(GenerationEnded):
    """Upstream now has another file under the same name (validator or size differs)."""


class DigestMismatch(GenerationEnded):
    """All bytes are there and their digest is wrong."""


class Untrusted(GenerationEnded):
    """The digest is right, and the blob is not to be served all the same: no trusted key has signed it, for one.

    Attributes:
        terms: what it does not meet; see `Provers.terms`.
    """

    def __init__(self, message: str, terms: str) -> None:
        super().__init__(message)
        self.terms = terms


class Damaged(CacheError):
    """What lies in the place of a proven blob is not what was proven: short, no file, not to be read."""


class Lost(CacheError):
    """These bytes can be had no longer, and none of those that left was wrong: others go on at the same offset."""


class ResumeUnsafe(CacheError):
    """Wrong bytes of this blob were sent lately: a client that has some of it must begin again at 0."""


class CoolingDown(CacheError):
    """Several rounds in a row ended wrong: not tried again for a while."""


class Distrusted(CoolingDown):
    """It was found untrusted: not tried again under the same terms."""


class NotInTime(CacheError):
    """No byte could be had for as long as a client can be kept waiting."""


class NoSpace(CacheError):
    """The blob cannot be kept."""


class NeverFits(NoSpace):
    """Larger than the whole cache may be."""


class NoSpaceNow(NoSpace):
    """Everything that could be evicted is in use or pinned."""


class InUse(CacheError):
    """It cannot be removed now: it is being read, filled or verified."""


class Stopping(CacheError):
    """The cache is being closed."""


class Defect(CacheError):
    """The cache met an error that it does not expect; the log has its traceback."""

    def __init__(self) -> None:
        super().__init__(DEFECT)


def is_full(error: OSError) -> bool:
    """Whether a file system has no more room, for anybody or for this user."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def is_unreadable(error: OSError) -> bool:
    """Whether the bytes of a file are lost, as far as the disk can tell."""
    return error.errno in UNREADABLE
