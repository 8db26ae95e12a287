"""The catalog on disk: `catalog.json`, replaced atomically, so that a restart knows what was offered before.

Manifests are kept as the Omaha answer they came in: what this program does not understand survives too.
Both functions wait for the disk: call them in a worker.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omaha_mirror.catalog.model import Release
from omaha_mirror.omaha import (
    AppResponse,
    OmahaError,
    Response,
    UpdateCheck,
    UpdateStatus,
    parse_response,
    serialise_response,
)

FORMAT = 1
LIMIT = 64 * 1024 * 1024


class BadState(Exception):
    """The file cannot be used; the message says which file and why."""


@dataclass(slots=True)
class Kept:
    """A release as it is remembered.

    Attributes:
        release: as it was settled.
        last_used: when a machine last asked about it or fetched from it, in seconds since the epoch.
        looked_up: the names of extra packages that upstream answered about.
        current: whether it is offered; False for one that was replaced or withdrawn.
    """

    release: Release
    last_used: float
    looked_up: frozenset[str] = frozenset()
    current: bool = True

    @property
    def key(self) -> tuple[str, str, str]:
        """App, board and version."""
        return self.release.app_id, self.release.board, self.release.version


def save(path: Path, kept: Iterable[Kept]) -> None:
    """Replace the file; what is there stays whole whatever happens. Raises OSError."""
    text = json.dumps({"format": FORMAT, "releases": [_dump(k) for k in kept]}, indent=1)
    draft = path.with_name(path.name + ".tmp")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: Path) -> list[Kept]:
    """What was saved; nothing if there is no file.

    Raises:
        BadState: the file is damaged or from a newer version.
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LIMIT + 1)
    except FileNotFoundError:
        return []
    try:
        if len(text) > LIMIT:
            raise ValueError(f"it has more than {LIMIT} bytes")
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']!r} is not known to this version")
        return [_read(item) for item in data["releases"]]
    except (ValueError, OmahaError) as error:
        raise BadState(f"{path} cannot be used: {error}") from error
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BadState(f"{path} cannot be used: it does not hold a catalog") from error


def _dump(kept: Kept) -> dict[str, Any]:
    release = kept.release
    check = UpdateCheck(status=UpdateStatus.OK, manifests=(release.manifest,))
    told = Response(apps=(AppResponse(appid=release.app_id, update_check=check),))
    return {
        "id": release.id,
        "app_id": release.app_id,
        "board": release.board,
        "version": release.version,
        "learnt": release.learnt,
        "last_used": kept.last_used,
        "looked_up": sorted(kept.looked_up),
        "current": kept.current,
        "urls": dict(release.urls),
        "manifest": serialise_response(told).decode(),
    }


def _read(item: dict[str, Any]) -> Kept:
    check = parse_response(item["manifest"].encode()).apps[0].update_check
    if check is None or check.manifest is None:
        raise ValueError(f"release {item['id']} has no manifest")
    release = Release(
        app_id=item["app_id"],
        board=item["board"],
        version=item["version"],
        manifest=check.manifest,
        urls=dict(item["urls"]),
        learnt=float(item["learnt"]),
    )
    if release.id != item["id"]:
        raise ValueError(f"release {item['id']} was altered")
    looked_up = frozenset(map(str, item["looked_up"]))
    return Kept(release, float(item["last_used"]), looked_up, item["current"] is True)
