"""What machines may be offered, worked out from the books alone: the rules given, and what upstream led to."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

from omaha_mirror.omaha import Version
from tests.sim.books import NEVER, Books
from tests.sim.schedule import RULES


class Policy:
    """Of one site.

    Args:
        books: of the run.
        pins: the version that each kind of rule that is a pin is to.
    """

    def __init__(self, books: Books, pins: Mapping[str, str]) -> None:
        self._books = books
        self._pins = pins

    def rules(self, track: str, since: float, until: float) -> Sequence[str]:
        """Every rule that may have been in force: `hold`, `follow`, `relay` or `pin VERSION`."""
        configured = RULES.get(track, "hold")
        rule = f"pin {self._pins[configured]}" if configured in self._pins else configured
        return list(self._books.rules(track, rule, since, until))

    def allows(self, track: str, offered: str, has: str, since: float, until: float) -> bool:
        """Whether a machine may be offered a version at some time in [since, until]."""
        if Version.parse(offered) <= Version.parse(has):
            return False
        return any(
            offered in self._targets(track, rule, until) for rule in self.rules(track, since, until)
        )

    def leads_on(self, track: str, has: str, now: float) -> bool:
        """Whether a machine is to be offered something sooner or later, by the rule that is in force now for good."""
        found = []
        for rule in self.rules(track, now, NEVER):
            targets = list(self._targets(track, rule, now))
            found.append(bool(targets) and Version.parse(targets[-1]) > Version.parse(has))
        return all(found)

    def _targets(self, track: str, rule: str, until: float) -> Iterator[str]:
        """Where a rule leads or has led, the newest last."""
        word, _, version = rule.partition(" ")
        if word == "pin":
            yield from self._floors(version, until)
            yield version
        elif word in ("follow", "relay"):
            for published in self._books.published:
                if published.track == track and published.at <= until:
                    yield published.version

    def _floors(self, version: str, until: float) -> Iterator[str]:
        """What upstream replaced: asked for its steps at that moment, a mirror takes it for a floor until it asks again."""
        newest = Version.parse(version)
        for one, other in permutations(self._books.published, 2):
            is_replaced = one.track == other.track and one.at < other.at <= until
            if is_replaced and Version.parse(one.version) < newest:
                yield one.version
