"""What would change an answer, by the name of its reason."""

from __future__ import annotations

OFFERED = "offered"
NOTHING_TO_DO = "Nothing needs to change: it is offered the next release that its track leads to."
_WAITS = "Nothing needs to be done: the machine asks again within 50 minutes."
_UPSTREAM = "Upstream decides this; pin the track to a version to go your own way."

ADVICE = {
    OFFERED: "It takes the offer now, or says in an event why not.",
    "up-to-date": NOTHING_TO_DO,
    "newer-than-pin": "Raise the track's version, or set allow_downgrade to bring the machine back.",
    "held": "Release the track: set it to follow or to a version.",
    "overrides-unreadable": "Hold or pin again what was held or pinned, then POST /api/v1/tracks/{track}/release, or /api/v1/tracks/release for all.",
    "delayed": "Wait until the track's delay is over, or shorten it.",
    "not-its-turn": "Wait for its turn, or shorten the track's ramp.",
    "above-max-version": "Raise the track's max_version.",
    "not-the-wanted-prefix": "The machine itself asks for versions with a prefix; change that there.",
    "unknown-app": "Add the application to upstream.app_ids, or correct the machine's application id.",
    "unknown-board": "Correct FLATCAR_RELEASE_BOARD on the machine: amd64-usr or arm64-usr.",
    "version-unreadable": "Correct FLATCAR_RELEASE_VERSION on the machine: numbers with dots.",
    "warming": _WAITS,
    "not-released": "Correct the track's version: upstream has no such release for this board.",
    "upstream-unreachable": "Bring the line to upstream back; then the machine's next check is enough.",
    "incomplete": "Bring the missing package back upstream, or leave it out of the track's packages.",
    "payload-wrong": "Upstream's file must be mended, or another version chosen: what it sends is not what it announced.",
    "payload-untrusted": "Find out who put it upstream; if the vendor has a new key, add it to upstream.public_keys and reload.",
    "withdrawn-upstream": _UPSTREAM,
    "no-update-upstream": _UPSTREAM,
    "upstream-busy": f"Upstream's limits let others go first. {_WAITS}",
    "answer-refused": "Upstream's answer cannot be passed on; the mirror's log says what is wrong with it.",
    "sidecar-disagrees": "Upstream contradicts itself about this release; wait until it is mended there.",
    "too-many-tracks": "Name the track in the config, so that it does not depend on being learnt.",
}
"""A reason that is missing here has only its own words."""
