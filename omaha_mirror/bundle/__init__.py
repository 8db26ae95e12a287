"""Releases in one file: carried to where no line goes, and checked whole before any of it counts there."""

from omaha_mirror.bundle.carry import Announced, carry
from omaha_mirror.bundle.errors import BadBundle, NotSaid
from omaha_mirror.bundle.exporter import Exporter, Wish
from omaha_mirror.bundle.folder import Told, open_folder
from omaha_mirror.bundle.importer import Importer, Taken
from omaha_mirror.bundle.model import Bundle, Entry, Member
from omaha_mirror.bundle.running import Bundles

__all__ = [
    "Announced",
    "BadBundle",
    "Bundle",
    "Bundles",
    "Entry",
    "Exporter",
    "Importer",
    "Member",
    "NotSaid",
    "Taken",
    "Told",
    "Wish",
    "carry",
    "open_folder",
]
