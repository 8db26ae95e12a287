"""The one order of versions.

Any count of numeric parts (missing ones are 0), then the rules of SemVer 2.0 section 11: a
pre-release (`-x`) is below its release, its identifiers are compared one by one, and `+build`
does not count, so two builds of one version are equal: neither is newer.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

from omaha_mirror.omaha.errors import BadVersion

MAX_LENGTH = 128

_VERSION = re.compile(
    r"(?P<numbers>[0-9]+(?:\.[0-9]+)*)"
    r"(?:-(?P<pre>[0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]+)*))?"
    r"(?:\+[0-9A-Za-z._-]+)?"
)

_Identifier = tuple[bool, int, str]


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A readable version; made by `Version.parse`, compared with `<`, `==` and so on.

    Attributes:
        text: The version as it was written; not part of any comparison.
        key: What is compared: numeric parts without trailing zeros, whether it is a release,
            and the pre-release identifiers as (is not a number, number, text).

    >>> Version.parse("4230.2.1-github-pr-12") < Version.parse("4230.2.1")
    True
    """

    text: str = field(compare=False)
    key: tuple[tuple[int, ...], bool, tuple[_Identifier, ...]] = field(repr=False)

    @staticmethod
    @lru_cache(maxsize=1024)
    def parse(text: str) -> "Version":
        """Read a version such as `3815.2.0`, `4230.2.1-github-pr-12` or `3815.2.5+nightly`.

        Raises:
            BadVersion: If it is not one, or is longer than 128 characters.
        """
        match = _VERSION.fullmatch(text) if len(text) <= MAX_LENGTH else None
        if match is None:
            raise BadVersion(
                f"cannot read the version {text[:80]!r}: expected numbers with dots, such as"
                " 3815.2.0 or 3815.2.0-dev"
            )
        numbers = [int(part) for part in match["numbers"].split(".")]
        while numbers and numbers[-1] == 0:
            numbers.pop()
        pre = match["pre"]
        identifiers = tuple(map(_identifier, pre.split("."))) if pre else ()
        return Version(text, (tuple(numbers), not pre, identifiers))

    def __str__(self) -> str:
        return self.text


def _identifier(text: str) -> _Identifier:
    """SemVer 2.0 section 11.4: numbers count as numbers and stand below words."""
    return (False, int(text), "") if text.isdecimal() else (True, 0, text)
