"""The config: a YAML file and the environment, read into frozen models.

`load` finds everything wrong in one pass; `ConfigError` says it to people.
"""

from omaha_mirror.config.changes import Changes, changes
from omaha_mirror.config.errors import ConfigError, Problem
from omaha_mirror.config.load import load, load_to_serve
from omaha_mirror.config.model import CacheConfig, Config, LogConfig, UpstreamConfig
from omaha_mirror.config.rules import Follow, Hold, Pin, Relay, Rule, Track
from omaha_mirror.config.units import Address

__all__ = [
    "Address",
    "CacheConfig",
    "Changes",
    "Config",
    "ConfigError",
    "Follow",
    "Hold",
    "LogConfig",
    "Pin",
    "Problem",
    "Relay",
    "Rule",
    "Track",
    "UpstreamConfig",
    "changes",
    "load",
    "load_to_serve",
]
