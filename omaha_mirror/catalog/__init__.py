"""Which releases there are, and where the tracks that are followed lead."""

from omaha_mirror.catalog.catalog import Catalog
from omaha_mirror.catalog.channel import ChannelStatus
from omaha_mirror.catalog.learn import CannotProve, LookupRequest, at_hand, learn
from omaha_mirror.catalog.model import BOARDS, LookupResult, PackageFile, Release, Step
from omaha_mirror.catalog.upstream_answer import (
    OfferedRelease,
    Unusable,
    UpstreamPolicy,
    UpstreamReading,
    read_upstream,
)
from omaha_mirror.config.rules import Follow, Hold, Pin, Relay, Rule
from omaha_mirror.reasons import Reason

__all__ = [
    "BOARDS",
    "CannotProve",
    "Catalog",
    "ChannelStatus",
    "Follow",
    "Hold",
    "LookupRequest",
    "LookupResult",
    "OfferedRelease",
    "PackageFile",
    "Pin",
    "Reason",
    "Relay",
    "Release",
    "Rule",
    "Step",
    "Unusable",
    "UpstreamPolicy",
    "UpstreamReading",
    "at_hand",
    "learn",
    "read_upstream",
]
