"""Which releases there are, and where the tracks that are followed lead."""

from omaha_mirror.catalog.catalog import Catalog
from omaha_mirror.catalog.channel import ChannelStatus
from omaha_mirror.catalog.learn import CannotProve, Wanted, at_hand, learn
from omaha_mirror.catalog.model import BOARDS, Known, PackageFile, Release, Step
from omaha_mirror.catalog.read import Offered, Policy, Told, Unusable, read_told
from omaha_mirror.catalog.reasons import WORDS, Reason
from omaha_mirror.catalog.rules import Follow, Hold, Pin, Relay, Rule

__all__ = [
    "BOARDS",
    "WORDS",
    "CannotProve",
    "Catalog",
    "ChannelStatus",
    "Follow",
    "Hold",
    "Known",
    "Offered",
    "PackageFile",
    "Pin",
    "Policy",
    "Reason",
    "Relay",
    "Release",
    "Rule",
    "Step",
    "Told",
    "Unusable",
    "Wanted",
    "at_hand",
    "learn",
    "read_told",
]
