"""The one table of reasons: each answer to an updatecheck has one, with its words, advice and effect."""

from __future__ import annotations

from enum import Flag, StrEnum, auto
from typing import Self


class Effect(Flag):
    """The effects of a reason on a machine's state and on questions to upstream."""

    NONE = 0
    COMPLETE = auto()
    """The machine has the version that it should have."""
    ON_HOLD = auto()
    """A policy delays the machine's update."""
    RETRIES = auto()
    """It may pass by itself: the machine is asked to check again soon."""
    UNASKED = auto()
    """It does not depend on releases, so upstream is not asked."""
    UNANSWERED = auto()
    """There is no valid answer of upstream, or none yet."""


_NEXT_CHECK = "Nothing needs to be done: the machine asks again within 50 minutes."
_UPSTREAM = "Upstream decides this; pin the track to a version to go your own way."


class Reason(StrEnum):
    """The reason for an answer; the value is its name in logs, metrics and the fleet database.

    Attributes:
        words: the reason for people.
        advice: what would change it, as a sentence.
        effect: see `Effect`.
    """

    words: str
    advice: str
    effect: Effect

    def __new__(cls, name: str, words: str, advice: str, effect: Effect = Effect.NONE) -> Self:
        """A row of the table."""
        reason = str.__new__(cls, name)
        reason._value_ = name
        reason.words, reason.advice, reason.effect = words, advice, effect
        return reason

    @classmethod
    def named(cls, name: str) -> Reason | None:
        """The reason with a name; None if this version has none: a database may contain others."""
        return _BY_NAME.get(name)

    def sentence(self, detail: str) -> str:
        """The reason in words, with its detail."""
        return f"{self.words}: {detail}" if detail else self.words

    OFFERED = (
        "offered",
        "offered the release",
        "It takes the offer now, or says in an event why not.",
    )
    UP_TO_DATE = (
        "up-to-date",
        "the machine has this version or a newer one",
        "Nothing needs to change: it is offered the next release that its track leads to.",
        Effect.COMPLETE,
    )
    NEWER = (
        "newer-than-pin",
        "the machine has a newer version than the pinned one; allow_downgrade is off",
        "Raise the track's version, or set allow_downgrade to bring the machine back.",
        Effect.COMPLETE,
    )
    HELD = (
        "held",
        "the track is held",
        "Release the track: set it to follow or to a version.",
        Effect.ON_HOLD | Effect.UNASKED,
    )
    UNREADABLE = (
        "overrides-unreadable",
        "the rules that tracks were given at run time cannot be read, so it is not known whether this one was held",
        "Hold or pin again what was held or pinned, then POST /api/v1/tracks/{track}/release, or /api/v1/tracks/release for all.",
        Effect.ON_HOLD | Effect.UNASKED,
    )
    UNKNOWN_APP = (
        "unknown-app",
        "this application is not among upstream.app_ids",
        "Add the application to upstream.app_ids, or correct the machine's application id.",
        Effect.UNASKED,
    )
    UNKNOWN_BOARD = (
        "unknown-board",
        "there are no releases for this board",
        "Correct FLATCAR_RELEASE_BOARD on the machine: amd64-usr or arm64-usr.",
        Effect.UNASKED,
    )
    VERSION_UNREADABLE = (
        "version-unreadable",
        "the version of the machine cannot be read",
        "Correct FLATCAR_RELEASE_VERSION on the machine: numbers with dots.",
        Effect.UNASKED,
    )
    WARMING = (
        "warming",
        "the release is being looked up or fetched; the next check may get it",
        _NEXT_CHECK,
        Effect.RETRIES | Effect.UNANSWERED,
    )
    NOT_RELEASED = (
        "not-released",
        "upstream has no such release",
        "Correct the track's version: upstream has no such release for this board.",
        Effect.RETRIES,
    )
    UNREACHABLE = (
        "upstream-unreachable",
        "upstream cannot be reached and the release is not known yet",
        "Bring the line to upstream back; then the machine's next check is enough.",
        Effect.RETRIES | Effect.UNANSWERED,
    )
    INCOMPLETE = (
        "incomplete",
        "a package that belongs to the release cannot be had",
        "Bring the missing package back upstream, or leave it out of the track's packages.",
        Effect.RETRIES,
    )
    PAYLOAD_WRONG = (
        "payload-wrong",
        "upstream's bytes do not match their digest",
        "Upstream's file must be mended, or another version chosen: what it sends is not what it announced.",
    )
    UNTRUSTED = (
        "payload-untrusted",
        "the payload is not a full one that a key of upstream.public_keys has signed",
        "Find out who put it upstream; if the vendor has a new key, add it to upstream.public_keys and reload.",
    )
    SIDECAR_DISAGREES = (
        "sidecar-disagrees",
        "what the release server has differs from the manifest",
        "Upstream contradicts itself about this release; wait until it is mended there.",
    )
    DELAYED = (
        "delayed",
        "the track holds new releases back for its delay",
        "Wait until the track's delay is over, or shorten it.",
        Effect.ON_HOLD,
    )
    NOT_ITS_TURN = (
        "not-its-turn",
        "the track's ramp has not come to this machine yet",
        "Wait for its turn, or shorten the track's ramp.",
        Effect.ON_HOLD,
    )
    ABOVE_MAX = (
        "above-max-version",
        "all that is newer is above the track's max_version",
        "Raise the track's max_version.",
        Effect.ON_HOLD,
    )
    OTHER_PREFIX = (
        "not-the-wanted-prefix",
        "nothing newer on the track has the version prefix that the machine asks for",
        "The machine itself asks for versions with a prefix; change that there.",
        Effect.ON_HOLD,
    )
    NO_UPDATE_UPSTREAM = (
        "no-update-upstream",
        "upstream offers no update on this track",
        _UPSTREAM,
        Effect.COMPLETE,
    )
    WITHDRAWN = (
        "withdrawn-upstream",
        "upstream offers nothing on this track any more",
        _UPSTREAM,
        Effect.ON_HOLD,
    )
    BUSY = (
        "upstream-busy",
        "upstream holds its updates back for a while, and what it offers is not known yet",
        f"Upstream's limits let others go first. {_NEXT_CHECK}",
        Effect.ON_HOLD,
    )
    REFUSED = (
        "answer-refused",
        "upstream's answer cannot be used",
        "Upstream's answer cannot be passed on; the mirror's log says what is wrong with it.",
        Effect.UNANSWERED,
    )
    TOO_MANY_TRACKS = (
        "too-many-tracks",
        "too many tracks are learnt already; name this one under tracks",
        "Name the track in the config, so that it does not depend on being learnt.",
    )


_BY_NAME = {reason.value: reason for reason in Reason}
