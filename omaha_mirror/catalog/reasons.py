"""Every answer to an update check has one of these reasons."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a machine was told what it was told; the value is the name in logs and metrics."""

    OFFERED = "offered"
    UP_TO_DATE = "up-to-date"
    NEWER = "newer-than-pin"
    HELD = "held"
    UNREADABLE = "overrides-unreadable"
    UNKNOWN_APP = "unknown-app"
    UNKNOWN_BOARD = "unknown-board"
    VERSION_UNREADABLE = "version-unreadable"
    WARMING = "warming"
    NOT_RELEASED = "not-released"
    UNREACHABLE = "upstream-unreachable"
    INCOMPLETE = "incomplete"
    PAYLOAD_WRONG = "payload-wrong"
    UNTRUSTED = "payload-untrusted"
    SIDECAR_DISAGREES = "sidecar-disagrees"
    DELAYED = "delayed"
    NOT_ITS_TURN = "not-its-turn"
    ABOVE_MAX = "above-max-version"
    OTHER_PREFIX = "not-the-wanted-prefix"
    NO_UPDATE_UPSTREAM = "no-update-upstream"
    WITHDRAWN = "withdrawn-upstream"
    BUSY = "upstream-busy"
    REFUSED = "answer-refused"
    TOO_MANY_TRACKS = "too-many-tracks"


WORDS = {
    Reason.OFFERED: "offered the release",
    Reason.UP_TO_DATE: "the machine has this version or a newer one",
    Reason.NEWER: "the machine has a newer version than the pinned one; allow_downgrade is off",
    Reason.HELD: "the track is held",
    Reason.UNREADABLE: "the rules that tracks were given at run time cannot be read, so nobody knows whether this one was held",
    Reason.UNKNOWN_APP: "this application is not among upstream.app_ids",
    Reason.UNKNOWN_BOARD: "there are no releases for this board",
    Reason.VERSION_UNREADABLE: "the version of the machine cannot be read",
    Reason.WARMING: "the release is being looked up or fetched; the next check may get it",
    Reason.NOT_RELEASED: "upstream has no such release",
    Reason.UNREACHABLE: "upstream cannot be reached and the release is not known yet",
    Reason.INCOMPLETE: "a package that belongs to the release cannot be had",
    Reason.PAYLOAD_WRONG: "upstream's bytes do not match their digest",
    Reason.UNTRUSTED: "the payload is not a full one that a key of upstream.public_keys has signed",
    Reason.SIDECAR_DISAGREES: "what the release server has differs from the manifest",
    Reason.DELAYED: "the track holds new releases back for its delay",
    Reason.NOT_ITS_TURN: "the track's ramp has not come to this machine yet",
    Reason.ABOVE_MAX: "all that is newer is above the track's max_version",
    Reason.OTHER_PREFIX: "nothing newer on the track has the version prefix that the machine asks for",
    Reason.NO_UPDATE_UPSTREAM: "upstream offers no update on this track",
    Reason.WITHDRAWN: "upstream offers nothing on this track any more",
    Reason.BUSY: "upstream holds its updates back for a while, and what it offers is not known yet",
    Reason.REFUSED: "upstream's answer cannot be used",
    Reason.TOO_MANY_TRACKS: "too many tracks are learnt already; name this one under tracks",
}
"""The reasons in words, for people."""
