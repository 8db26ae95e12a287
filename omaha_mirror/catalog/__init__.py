"""Which releases there are, what each machine is told, and why."""

from omaha_mirror.catalog.answer import answer
from omaha_mirror.catalog.catalog import Catalog
from omaha_mirror.catalog.decide import Decision, decide
from omaha_mirror.catalog.learn import CannotProve, Wanted, learn
from omaha_mirror.catalog.model import BOARDS, Known, PackageFile, Release, Rule
from omaha_mirror.catalog.reasons import WORDS, Reason

__all__ = [
    "BOARDS",
    "WORDS",
    "CannotProve",
    "Catalog",
    "Decision",
    "Known",
    "PackageFile",
    "Reason",
    "Release",
    "Rule",
    "Wanted",
    "answer",
    "decide",
    "learn",
]
