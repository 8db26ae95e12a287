"""Why a machine did or did not update, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from omaha_mirror.fleet.model import FAILURES, NO_VERSION, DecisionRun, Event, Machine, State
from omaha_mirror.omaha import ErrorCode, EventResult, EventType, describe_error, describe_event
from omaha_mirror.omaha.codes import HTTP_BASE
from omaha_mirror.reasons import Reason
from omaha_mirror.text import ago, minute

SERVER_ERROR = HTTP_BASE + 500


@dataclass(frozen=True, slots=True)
class Cause:
    """The likely cause of an error and what to do about it, as sentences."""

    likely: str
    remedy: str


_ALTERED = "The bytes were altered on their way, or the file at its address was replaced."
_VERIFY = "Run `omaha-mirror cache verify` on the mirror; if it finds nothing wrong, look for a proxy between mirror and machine."
_ANSWER = "A proxy in between altered or replaced the answer, or SERVER names another server."
_SERVER = "Compare SERVER in the machine's update.conf with what `omaha-mirror client-config` prints, and ask with curl from there."
_KEY = "Compare the machine's update-payload-key.pub.pem with the key that the release was signed with."
_DISK = "Look at the machine's disk and its journal: `journalctl -u update-engine`."

CAUSES = {
    ErrorCode.OMAHA_REQUEST_ERROR: Cause("The machine's request could not be sent.", _SERVER),
    ErrorCode.POSTINSTALL_RUNNER_ERROR: Cause(
        "The new system's own last step failed; most often it could not download an OEM or extension package of the release.",
        "Look for 404 answers to oem-*.gz or flatcar-*.gz on the mirror, and at `journalctl -u update-engine` on the machine.",
    ),
    ErrorCode.DOWNLOAD_TRANSFER_ERROR: Cause(
        "The package could not be downloaded: the mirror or its line to upstream was down, or the connection broke too often.",
        "Look at the mirror's fills and errors of that time; the machine tries again at its next check and resumes the download.",
    ),
    ErrorCode.PAYLOAD_HASH_MISMATCH_ERROR: Cause(_ALTERED, _VERIFY),
    ErrorCode.PAYLOAD_SIZE_MISMATCH_ERROR: Cause(
        "The body ended early without the machine noticing, or the announced size is that of another file.",
        _VERIFY,
    ),
    ErrorCode.DOWNLOAD_PAYLOAD_VERIFICATION_ERROR: Cause(_ALTERED, _VERIFY),
    ErrorCode.DOWNLOAD_WRITE_ERROR: Cause("The machine could not write the payload.", _DISK),
    ErrorCode.NEW_ROOTFS_VERIFICATION_ERROR: Cause(
        "The installed bytes do not match the payload.", _DISK
    ),
    ErrorCode.NEW_KERNEL_VERIFICATION_ERROR: Cause(
        "The installed bytes do not match the payload.", _DISK
    ),
    ErrorCode.SIGNED_DELTA_PAYLOAD_EXPECTED_ERROR: Cause("The payload carries no signature.", _KEY),
    ErrorCode.DOWNLOAD_PAYLOAD_PUB_KEY_VERIFICATION_ERROR: Cause(
        "The payload is signed with a key that the machine does not trust.", _KEY
    ),
    ErrorCode.DOWNLOAD_STATE_INITIALIZATION_ERROR: Cause(
        "The payload is a delta for another version than the one on the machine's disk.",
        "Offer full payloads on this track.",
    ),
    ErrorCode.DOWNLOAD_INVALID_METADATA_MAGIC_STRING: Cause(
        "The machine received no payload, but for example an error page.", _VERIFY
    ),
    ErrorCode.DOWNLOAD_MANIFEST_PARSE_ERROR: Cause(_ALTERED, _VERIFY),
    ErrorCode.DOWNLOAD_OPERATION_EXECUTION_ERROR: Cause(
        "The payload's parts are out of order or too long: a resumed download was continued with the wrong bytes.",
        _VERIFY,
    ),
    ErrorCode.DOWNLOAD_OPERATION_HASH_MISMATCH: Cause(
        "A part of the payload was altered, or a resumed download was continued with the wrong bytes.",
        _VERIFY,
    ),
    ErrorCode.DOWNLOAD_OPERATION_HASH_MISSING_ERROR: Cause(
        "The payload was built without digests of its parts.",
        "Build it again with update_engine's own delta_generator.",
    ),
    ErrorCode.OMAHA_REQUEST_EMPTY_RESPONSE_ERROR: Cause(_ANSWER, _SERVER),
    ErrorCode.OMAHA_REQUEST_XML_PARSE_ERROR: Cause(_ANSWER, _SERVER),
    ErrorCode.OMAHA_RESPONSE_INVALID: Cause(
        "The answer was neither an update nor `noupdate`. This mirror answers nothing else to a check, so it came from another server.",
        _SERVER,
    ),
    ErrorCode.OMAHA_ERROR_IN_HTTP_RESPONSE: Cause(_ANSWER, _SERVER),
    ErrorCode.OMAHA_UPDATE_DEFERRED_FOR_BACKOFF: Cause(
        "After failed attempts the machine waits: a day, then two, at most 16.",
        "Mend what failed before. To try at once: stop update-engine, remove /var/lib/update_engine/prefs/backoff-expiry-time, start it.",
    ),
    ErrorCode.NEW_PCR_POLICY_HTTP_ERROR: Cause(
        "The server that PCR_POLICY_SERVER names did not accept the new policy.",
        "Look at that server; it is not the mirror.",
    ),
    ErrorCode.ROLLBACK: Cause(
        "The new version did not boot, or an operator made the machine boot the old one.",
        "Look at the console of its next reboot; hold the track if several machines do this.",
    ),
}
"""By code without flags."""

NO_ANSWER = Cause(
    "The machine could not reach its update server: name, route, firewall, or the server was down.",
    _SERVER,
)
REFUSED = Cause("SERVER has a wrong path, or another server or proxy answers there.", _SERVER)
OVERLOADED = Cause(
    "The update server or a proxy before it failed.", "Look at its log of that time."
)


def cause_of(errorcode: int) -> Cause | None:
    """The likely cause of an errorcode, flags or not; None for one that no server causes."""
    base = describe_error(errorcode).base
    if base == HTTP_BASE:
        return NO_ANSWER
    if HTTP_BASE < base < HTTP_BASE + 1000:
        return OVERLOADED if base >= SERVER_ERROR else REFUSED
    known = ErrorCode.find(base)
    return CAUSES.get(known) if known is not None else None


SILENT = 6 * 3600
"""Seconds of silence after which a machine is missing: it asks at least every 4 hours, give or take half
(update_check_scheduler.cc:106-137)."""

_STATES = {
    State.UNDEFINED: "It is not known to be updating.",
    State.GRANTED: "It was offered a release and has not begun to download.",
    State.DOWNLOADING: "It is downloading.",
    State.DOWNLOADED: "It has downloaded the release and is writing it.",
    State.INSTALLED: "It has installed the release and waits for its reboot.",
    State.COMPLETE: "It has what it should have.",
    State.ON_HOLD: "It is kept back.",
    State.ERROR: "Its last attempt failed.",
}


def explain(
    machine: Machine, stretches: Sequence[DecisionRun], events: Iterable[Event], now: float
) -> list[str]:
    """Its last check, the answer, the reason, what would change the answer, and its last failure.

    Args:
        machine: as of its last request.
        stretches: its decisions, the newest first.
        events: the newest first.
        now: seconds since the epoch.
    """
    sentences = [_machine(machine, now), _STATES[machine.state]]
    if now - machine.last_seen > SILENT:
        sentences.append(
            "A running machine asks every 45 minutes, so it is off, cut off, or uses another server."
        )
    if stretches:
        sentences += _answers(stretches, now)
    elif machine.state is State.INSTALLED:
        sentences.append(
            "It has not asked since this mirror knows it: until its reboot it only pings."
        )
    else:
        sentences.append("It has not asked for an update since this mirror knows it.")
    trouble = _last_trouble(events)
    return sentences + (_failed(trouble, now) if trouble is not None else [])


def _machine(machine: Machine, now: float) -> str:
    alias = f" ({machine.alias})" if machine.alias else ""
    board = f" for {machine.board}" if machine.board else ""
    track = f", on track {machine.track}" if machine.track else ""
    seen = f"last seen {_when(machine.last_seen, now)}"
    return (
        f"Machine {machine.machineid}{alias} at {machine.address} runs {machine.version or 'no known version'}"
        f"{board}{track}, {seen}."
    )


def _answers(stretches: Sequence[DecisionRun], now: float) -> list[str]:
    last = stretches[0]
    times = f", {last.count} times since {_when(last.first, now)}" if last.count > 1 else ""
    asked = (
        f"It asked for an update as {last.version or 'no version'} on track {last.track or 'none'}"
        f" {_when(last.last, now)}{times}."
    )
    if last.offered is not None:
        answer = f"It was offered {last.offered}."
    else:
        answer = f"The answer was `noupdate`: {last.detail or last.reason}."
    sentences = [asked, answer]
    if (reason := Reason.named(last.reason)) is not None:
        sentences.append(reason.advice)
    sentences += [
        f"Before that, until {_when(earlier.last, now)}, it was offered {earlier.offered}."
        for earlier in stretches[1:]
        if earlier.offered is not None and earlier.offered != last.offered
    ][:1]
    return sentences


def _last_trouble(events: Iterable[Event]) -> Event | None:
    """The newest failure or deferral since the last successful update."""
    for event in events:
        done = (event.eventtype, event.eventresult) == (
            EventType.UPDATE_COMPLETE,
            EventResult.SUCCESS_REBOOT,
        )
        if done and event.previousversion not in NO_VERSION:
            return None
        if event.eventresult in FAILURES or event.eventresult == EventResult.UPDATE_DEFERRED:
            return event
    return None


def _failed(event: Event, now: float) -> list[str]:
    words = describe_event(
        event.eventtype, event.eventresult, event.errorcode, event.previousversion
    )
    sentences = [f"It reported {_when(event.time, now)}, as {event.version}: {words}."]
    cause = cause_of(event.errorcode) if event.errorcode is not None else None
    if cause is not None:
        sentences += [f"Likely cause: {cause.likely}", f"What helps: {cause.remedy}"]
    elif event.errorcode is not None:
        base = describe_error(event.errorcode).base
        sentences.append(
            f"Error {base} comes from the machine itself: see `journalctl -u update-engine`."
        )
    return sentences


def _when(time: float, now: float) -> str:
    """A time with its age: `2026-11-23 20:21 UTC (5 minutes ago)`."""
    return f"{minute(time)} ({ago(now - time)})"
