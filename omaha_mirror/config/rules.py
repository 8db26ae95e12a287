"""What an operator wants the machines of a track to get."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, StrictBool, model_validator
from pydantic.dataclasses import dataclass

from omaha_mirror.config.section import Duration, Release, unique
from omaha_mirror.reasons import Reason

_FORM = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
TrackName = Annotated[str, Field(min_length=1, max_length=128)]


@dataclass(frozen=True, config=_FORM)
class _Written:
    """A rule that is a mapping. A known key without a value counts as not written."""

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = cls.__dataclass_fields__
        return {key: value for key, value in data.items() if value is not None or key not in known}


@dataclass(frozen=True, config=_FORM)
class Hold:
    """Every machine of the track is answered `noupdate`."""

    reason: Reason = Reason.HELD
    """That machines are told."""


@dataclass(frozen=True, config=_FORM)
class Relay(_Written):
    """Each check is passed on upstream with the machine's own identity."""

    upstream_track: TrackName | None = None
    """The track's name upstream, where that is another one."""


@dataclass(frozen=True, config=_FORM)
class Follow(_Written):
    """Every machine of the track is offered what upstream offers on it."""

    delay: Annotated[Duration, Field(ge=0)] = 0.0
    """From when a version is first seen upstream to its first offer."""
    ramp: Annotated[Duration, Field(ge=0)] = 0.0
    """After that, the time over which the machines' turns are spread."""
    max_version: Release | None = None
    """Nothing newer is offered."""
    upstream_track: TrackName | None = None
    """The track's name upstream, where that is another one."""


def _package(name: str) -> str:
    if not re.fullmatch(r"(oem|flatcar)-[A-Za-z0-9._-]+\.gz", name, re.ASCII):
        raise ValueError(
            f"{name!r} is not an extra package: their names are oem-NAME.gz and flatcar-NAME.gz"
        )
    return name


@dataclass(frozen=True, config=_FORM)
class Pin(_Written):
    """Every machine of the track is offered one version, and the floors before it."""

    version: Release
    packages: Annotated[
        tuple[Annotated[str, AfterValidator(_package)], ...], AfterValidator(unique)
    ] = ()
    """Extra packages that go with the payload, such as `oem-azure.gz`."""
    allow_downgrade: StrictBool = False
    """Offer the version to machines with a newer one too."""
    skip_floors: StrictBool = False
    """Offer it also to machines below a version that all are to step through."""


Rule = Hold | Relay | Follow | Pin


def track_upstream(track: str, rule: Rule) -> str:
    """What a track is called upstream."""
    named = rule.upstream_track if isinstance(rule, Follow | Relay) else None
    return named or track


def depends_on_track(rule: Rule) -> bool:
    """Whether where a rule leads depends on the track that has it: a pin and a hold are the same on every track."""
    return isinstance(rule, Follow | Relay)
