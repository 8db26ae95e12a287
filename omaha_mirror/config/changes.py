"""A reload: which changed keys a running mirror applies, and which wait for a restart."""

from dataclasses import dataclass
from typing import TypeVar

from omaha_mirror.config.model import Config
from omaha_mirror.config.section import Section, keys

S = TypeVar("S", bound=Section)

APPLIED_AT_ONCE = frozenset(
    {
        "public_url",
        "packages_auth.user",
        "packages_auth.password_file",
        "trusted_proxies",
        "cache.max_size",
        "cache.min_free",
        "release_layout",
        "upstream.public_keys",
        "upstream.poll_interval",
        "upstream.forward_events",
        "upstream.fallback_to_upstream",
        "upstream.max_fills",
        "upstream.rate_limit",
        "default_track",
        "tracks",
        "log.level",
    }
)
"""The keys that a running mirror applies when it reloads its config; all others wait for a restart."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The keys with another value, such as `upstream.rate_limit`, in the order of the model."""

    applied: tuple[str, ...] = ()
    """A reload applies these at once."""
    restart: tuple[str, ...] = ()
    """These wait for a restart."""


def changes(old: Config, new: Config) -> Changes:
    """The keys with another value in the new config."""
    changed = [path for path in keys(Config) if _value(old, path) != _value(new, path)]
    names = [".".join(path) for path in changed]
    return Changes(
        applied=tuple(name for name in names if name in APPLIED_AT_ONCE),
        restart=tuple(name for name in names if name not in APPLIED_AT_ONCE),
    )


def adopted(old: Config, new: Config) -> Config:
    """The old config with those values of the new one that are applied at once."""
    config = old
    for path in keys(Config):
        if ".".join(path) in APPLIED_AT_ONCE:
            config = _replaced(config, path, _value(new, path))
    return config


def _replaced(section: S, path: tuple[str, ...], value: object) -> S:
    key, *below = path
    if below:
        value = _replaced(getattr(section, key), tuple(below), value)
    return section.model_copy(update={key: value})


def _value(config: Config, path: tuple[str, ...]) -> object:
    value: object = config
    for key in path:
        value = getattr(value, key)
    return value
