"""What an operator does on the page: hold, pin or release a track, and ask upstream now."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from pydantic import ValidationError

from omaha_mirror.config import Hold, Pin
from omaha_mirror.policy.overrides import BadOverride
from omaha_mirror.service import Service
from omaha_mirror.web.errors import BadRequest

LOG = structlog.get_logger(__name__)


async def change_track(service: Service, fields: Mapping[str, str]) -> str:
    """Do to a track what a form says; gives a sentence. Raises BadRequest, OSError."""
    track = fields.get("track", "").strip()
    try:
        match fields.get("do"):
            case "hold":
                override = await service.overrides.put(track, Hold())
            case "pin":
                override = await service.overrides.put(track, _pin(fields.get("version", "")))
            case "release":
                return await _release(service, track)
            case _:
                raise BadRequest("choose what to do: hold, pin or release")
    except BadOverride as error:
        raise BadRequest(str(error)) from None
    LOG.info("a track has another rule", track=track, rule=override.words)
    return override.words


def _pin(version: str) -> Pin:
    try:
        return Pin(version=version.strip())
    except ValidationError as error:
        why = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise BadRequest(f"the version to pin to cannot be read: {why}") from None


async def _release(service: Service, track: str) -> str:
    if await service.overrides.remove(track) is None:
        raise BadRequest(f"nothing is to be released: the track {track} has the config's rule", 404)
    LOG.info("a track goes by the config again", track=track)
    return f"The track {track} has the config's rule again."


async def sync(service: Service) -> str:
    """Ask upstream about all tracks that are followed; gives a sentence."""
    found = await service.warm_up.sync()
    if not found:
        return "No track is followed, so there was nothing to ask."
    troubled = [status for status in found if status.trouble]
    if troubled:
        raise BadRequest(f"upstream was asked; {troubled[0].track}: {troubled[0].trouble}", 502)
    return "Upstream was asked, and answered."
