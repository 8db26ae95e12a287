"""Growing blobs: fetched once, streamed while they arrive, proven before anyone can finish them.

Knows no Omaha and no HTTP. `Cache.read` gives a `Reader`, whose windows say which bytes of which file may be sent
now. What is fetched comes from a `Source`, what is kept lies in a `Store`, and what may leave unproven is a
`Prover`'s to say: the three ports.
"""

from omaha_mirror.cache.blob import Expected, Proof
from omaha_mirror.cache.cache import Cache
from omaha_mirror.cache.contents import Progress
from omaha_mirror.cache.disk import DiskStore
from omaha_mirror.cache.fetch_scheduler import FetchScheduler
from omaha_mirror.cache.fill_state import Limits
from omaha_mirror.cache.reader import Reader, Window
from omaha_mirror.cache.source import Body, Source, Validator
from omaha_mirror.cache.space import Ledger
from omaha_mirror.cache.verifier import Scrubber, Verifier, VerifyResult

__all__ = [
    "Body",
    "Cache",
    "DiskStore",
    "Expected",
    "FetchScheduler",
    "Ledger",
    "Limits",
    "Progress",
    "Proof",
    "Reader",
    "Scrubber",
    "Source",
    "Validator",
    "Verifier",
    "VerifyResult",
    "Window",
]
