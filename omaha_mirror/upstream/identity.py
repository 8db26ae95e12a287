"""Pseudonyms: lasting ids for upstream that reveal no machine id.

They are made with a secret of the site, so that a machine id does not reveal its pseudonym, and no two sites have the same
one. A new secret makes every machine of the site look new.
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
    """The site's 32 random bytes, created at first use. It waits for the disk.

    A damaged file is renamed, and a new secret made; if it cannot be stored, it lasts until the next start.

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
    """A machine's pseudonym, 32 hexadecimal digits, always the same."""
    return _id(secret, "machine", machineid)


def lasting_id(secret: bytes, app_id: str, board: str, track: str) -> str:
    """The machine id of the mirror's own questions about a track, 32 hexadecimal digits."""
    return _id(secret, "track", app_id, board, track)


def anonymous(request: Request, app: AppRequest, secret: bytes) -> Request:
    """A machine's report under a pseudonym: its version and its events.

    Only the fields named here leave the site. The updatecheck does not: its answer would be a grant that no machine uses.
    The ping stays, without its counts of days: Nebraska ignores events of instances that never sent one.
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
