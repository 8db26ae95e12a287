"""The likely causes and remedies of update_engine's errorcodes that a server can cause.

The step of update_engine that reports each code: action_processor.h:24-80, payload_state.cc:112-146 (what follows from it).
"""

from __future__ import annotations

from dataclasses import dataclass

from omaha_mirror.omaha import ErrorCode, describe_error

HTTP_BASE = 2000
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
