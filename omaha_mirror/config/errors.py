"""The errors of a config, in words for its author."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

_WIDEST_EXCERPT = 120
_BEFORE_CARET = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One error. Lines and columns count from 1; line 0 is the source as a whole."""

    source: str
    """The path of the file, or the name of an environment variable."""
    message: str
    key: str = ""
    line: int = 0
    column: int = 0
    excerpt: str = ""
    """The line of the source, if it helps."""

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        said = ": ".join(part for part in (place, self.key, self.message) if part)
        return f"{said}\n{self._with_caret()}" if self.excerpt else said

    def _with_caret(self) -> str:
        # What stands before an @ may be a password, however the URL around it is misspelt.
        line = re.sub(r"(?<=:).+(?=@)", lambda secret: "*" * len(secret[0]), self.excerpt)
        line = re.sub(r"(?<=[?&]password=)[^&\s]+", lambda secret: "*" * len(secret[0]), line)
        start = max(0, self.column - _BEFORE_CARET)
        shown = line[start : start + _WIDEST_EXCERPT].rstrip()
        blank = re.sub(r"[^\t]", " ", line[start : self.column - 1])
        return f"    {shown}\n    {blank}^"


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a message about a word that is not known: the nearest one that is, if any."""
    by_case = {each.lower(): each for each in known}
    near = difflib.get_close_matches(word.lower(), by_case, n=1)
    return f"; did you mean {prefix}{by_case[near[0]]}?" if near else ""


class ConfigError(Exception):
    """The config cannot be used. `problems` holds everything found wrong, in the file's order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
