"""What machines may be offered, worked out from the books alone: the rules given, and what upstream led to."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

from omaha_mirror.omaha import Version
from tests.sim.books import NEVER, Books, Check
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

    def rules(self, track: str, since: float, until: float, mirror: int = 1) -> Sequence[str]:
        """Every rule that may have been in force: `hold`, `follow`, `relay` or `pin VERSION`. Operators are at the first mirror."""
        configured = RULES.get(track, "hold")
        rule = f"pin {self._pins[configured]}" if configured in self._pins else configured
        return list(self._books.rules(track, rule, since, until)) if mirror == 1 else [rule]

    def allows(self, check: Check, mirror: int) -> bool:
        """Whether a machine may be offered what it was offered at a mirror."""
        offered, until = check.offered, check.answered
        if offered is None or Version.parse(offered) <= Version.parse(check.version):
            return offered is None
        rules = self.rules(check.track, check.asked, until, mirror)
        return any(offered in self._targets(check.track, rule, until) for rule in rules)

    def leads_on(self, track: str, has: str, now: float, mirror: int) -> bool:
        """Whether a machine is to be offered something sooner or later, by the rules that are in force now for good.

        One of the second mirror needs both: that one asks the first.
        """
        found = []
        for rule in (*self.rules(track, now, NEVER), *self.rules(track, now, NEVER, mirror)):
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
