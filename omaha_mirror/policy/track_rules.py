"""The rules in force: what an operator gave a track at run time goes before the config."""

from __future__ import annotations

from omaha_mirror import config
from omaha_mirror.config.rules import Hold, Rule
from omaha_mirror.policy.overrides import Overrides
from omaha_mirror.reasons import Reason


class TrackRules:
    """Gives the rule of a track.

    Args:
        configured: the config; another one may take its place.
        overrides: that go before it.
    """

    def __init__(self, configured: config.Config, overrides: Overrides) -> None:
        self._config = configured
        self._overrides = overrides
        self._changes = 0

    def __call__(self, track: str) -> Rule:
        """What the machines of a track get."""
        override = self._overrides.get(track)
        if override is None:
            return self._config.track(track)
        return Hold(Reason.UNREADABLE) if override.why == "unreadable" else override.rule

    def written(self, track: str) -> Rule:
        """The same as it was given: what cannot be read is a plain hold."""
        override = self._overrides.get(track)
        return override.rule if override is not None else self._config.track(track)

    def named(self) -> set[str]:
        """The tracks that the config or an operator names: every other one has the rule of the track ``""``."""
        return {*self._config.tracks, *(override.track for override in self._overrides.all())}

    def change(self, configured: config.Config) -> None:
        """Go by another config from now on."""
        self._config = configured
        self._changes += 1

    @property
    def changes(self) -> int:
        """Another number when a rule may be another than before."""
        return self._changes + self._overrides.changes
