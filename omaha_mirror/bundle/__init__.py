"""Bundles: releases in one file for a mirror without a line, verified as a whole before the import changes anything."""

from omaha_mirror.bundle.exporter import Exporter, ExportRequest
from omaha_mirror.bundle.folder import FolderOptions, open_folder
from omaha_mirror.bundle.importer import Importer, ImportResult
from omaha_mirror.bundle.layout import Announced, resume_copy
from omaha_mirror.bundle.model import BadBundle, Bundle, Entry, Member, MissingOption

__all__ = [
    "Announced",
    "BadBundle",
    "Bundle",
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
