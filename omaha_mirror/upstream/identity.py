"""Who the site says it is: lasting ids that tell upstream nothing of a machine.

An id comes from a secret of the site, so that nobody who knows a machine id can tell which pseudonym is its own, and two
sites never use one id. A new secret makes every machine of the site look new.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from pathlib import Path

import structlog

from omaha_mirror.omaha import AppRequest, EventRequest, PingRequest, Request
from omaha_mirror.state_file import replace_file, restore

SECRET = "site-secret"  # noqa: S105 - the name of a file
SIZE = 32
LOG = structlog.get_logger(__name__)


def site_secret(directory: Path) -> bytes:
    """The site's 32 random bytes, made up at first use. It waits for the disk.

    One that is damaged is put aside and made anew; one that cannot be kept, on a full disk, lasts until the next start.

    Args:
        directory: of the state; the file in it is for the mirror's user alone.
    """
    path = directory / SECRET
    secret = restore(
        path, SIZE, _read, "it is made anew: upstream takes every machine for a new one"
    )
    if secret is None:
        secret = secrets.token_bytes(SIZE)
        try:
            replace_file(path, secret)
        except OSError as error:
            LOG.error(
                "the site's secret cannot be kept; after a restart upstream takes every machine for a new one",
                path=str(path),
                why=error.strerror,
            )
    return secret


def _read(content: bytes) -> bytes:
    if len(content) != SIZE:
        raise ValueError(f"it has {len(content)} bytes, not {SIZE}")
    return content


def pseudonym(secret: bytes, machineid: str) -> str:
    """The 32 hex digits that stand for a machine upstream, always the same."""
    return _id(secret, "machine", machineid)


def lasting_id(secret: bytes, app_id: str, board: str, track: str) -> str:
    """The machine id, 32 hex digits, under which the mirror itself asks for a track."""
    return _id(secret, "track", app_id, board, track)


def anonymous(request: Request, app: AppRequest, secret: bytes) -> Request:
    """What upstream may be told of a machine: what runs there and what happened, under a pseudonym.

    Only what is named here leaves the site; the question for an update does not, for its answer would be a grant that
    nobody takes. The ping stays, without its counts of days: Nebraska ignores events of instances that never sent one.
    """
    return Request(
        protocol=request.protocol,
        apps=(
            AppRequest(
                appid=app.appid,
                version=app.version,
                track=app.track,
                board=app.board,
                oem=app.oem,
                oemversion=app.oemversion,
                machineid=pseudonym(secret, app.machineid) if app.machineid else "",
                ping=PingRequest(active=app.ping.active) if app.ping is not None else None,
                events=tuple(
                    EventRequest(
                        eventtype=event.eventtype,
                        eventresult=event.eventresult,
                        errorcode=event.errorcode,
                        previousversion=event.previousversion,
                    )
                    for event in app.events
                ),
            ),
        ),
    )


def _id(secret: bytes, *parts: str) -> str:
    return hmac.new(secret, json.dumps(parts).encode(), hashlib.sha256).hexdigest()[:32]
