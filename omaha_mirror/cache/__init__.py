"""Growing blobs: fetched once, streamed while they arrive, proven before anyone can finish them.

Knows no Omaha and no HTTP. `Cache.read` gives a `Reader`, whose windows are the bytes of a file that may be sent now. Three
ports: a `Source` gives the bytes, a `Store` keeps them, and a `Prover` decides which unproven ones may be sent.
"""

from omaha_mirror.cache.blob import Expected, Proof
from omaha_mirror.cache.cache import Cache
from omaha_mirror.cache.disk_store import DiskStore
from omaha_mirror.cache.fetch_scheduler import FetchScheduler
from omaha_mirror.cache.fill_state import Limits
from omaha_mirror.cache.inventory import Progress
from omaha_mirror.cache.reader import Reader, Window
from omaha_mirror.cache.scrub import Scrubber, Verifier, VerifyResult
from omaha_mirror.cache.source import Body, Source, Validator
from omaha_mirror.cache.space import Ledger

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
