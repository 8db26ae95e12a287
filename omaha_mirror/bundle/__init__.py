"""Releases in one file: carried to where no line goes, and checked whole before any of it counts there."""

from omaha_mirror.bundle.exporter import Exporter, ExportRequest
from omaha_mirror.bundle.folder import FolderOptions, open_folder
from omaha_mirror.bundle.importer import Importer, ImportResult
from omaha_mirror.bundle.model import BadBundle, Bundle, Entry, Member, MissingOption
from omaha_mirror.bundle.resume_copy import Announced, resume_copy
from omaha_mirror.bundle.running import Bundles

__all__ = [
    "Announced",
    "BadBundle",
    "Bundle",
    "Bundles",
    "Entry",
    "ExportRequest",
    "Exporter",
    "FolderOptions",
    "ImportResult",
    "Importer",
    "Member",
    "MissingOption",
    "open_folder",
    "resume_copy",
]
