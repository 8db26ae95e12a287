"""The config: a YAML file, read once into frozen models.

`load` finds everything wrong with a file in one pass; `ConfigError` says it to people.
"""

from omaha_mirror.config.errors import ConfigError, Problem
from omaha_mirror.config.load import load
from omaha_mirror.config.model import (
    CacheConfig,
    Config,
    Hold,
    LogConfig,
    Pin,
    Track,
    UpstreamConfig,
)
from omaha_mirror.config.units import Address

__all__ = [
    "Address",
    "CacheConfig",
    "Config",
    "ConfigError",
    "Hold",
    "LogConfig",
    "Pin",
    "Problem",
    "Track",
    "UpstreamConfig",
    "load",
]
