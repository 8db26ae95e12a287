"""Omaha's numbers and status words, and what they mean; update_engine's error codes, `event/@errorcode`, and their flags.

A code that has no name here is kept and described by its number: none is ever refused.

The numbers of errors are those of update_engine action_processor.h:24-110.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag, StrEnum
from functools import lru_cache
from typing import Self, cast

HTTP_BASE = 2000
"""What update_engine adds to the HTTP status of the update server; 0 for no answer."""

_BITS = 0xFFFF_FFFF


class Code(IntEnum):
    """A number with words for people; each member gives both."""

    words: str

    def __new__(cls, value: int, words: str) -> Self:
        """Make a member of its pair."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.words = words
        return member

    @classmethod
    def find(cls, value: int | None) -> Self | None:
        """The member with that number, if there is one."""
        return cast("Self | None", cls._value2member_map_.get(value))


class ErrorCode(Code):
    """What went wrong, without flags."""

    SUCCESS = 0, "success"
    ERROR = 1, "an error without a name"
    OMAHA_REQUEST_ERROR = 2, "the Omaha request failed"
    OMAHA_RESPONSE_HANDLER_ERROR = 3, "the answer could not be made an install plan"
    FILESYSTEM_COPIER_ERROR = 4, "the old partition could not be copied"
    POSTINSTALL_RUNNER_ERROR = 5, "the postinstall step failed"
    SET_BOOTABLE_FLAG_ERROR = 6, "the new partition could not be made bootable"
    INSTALL_DEVICE_OPEN_ERROR = 7, "the target partition could not be opened"
    KERNEL_DEVICE_OPEN_ERROR = 8, "the target of the kernel could not be opened"
    DOWNLOAD_TRANSFER_ERROR = 9, "the download failed"
    PAYLOAD_HASH_MISMATCH_ERROR = 10, "the payload has another SHA-256 than announced"
    PAYLOAD_SIZE_MISMATCH_ERROR = 11, "the payload has another size than announced"
    DOWNLOAD_PAYLOAD_VERIFICATION_ERROR = 12, "the payload could not be verified"
    DOWNLOAD_NEW_PARTITION_INFO_ERROR = 13, "the new partition's size or digest is unknown"
    DOWNLOAD_WRITE_ERROR = 14, "the payload could not be written to disk"
    NEW_ROOTFS_VERIFICATION_ERROR = 15, "the written partition is not what it should be"
    NEW_KERNEL_VERIFICATION_ERROR = 16, "the written kernel is not what it should be"
    SIGNED_DELTA_PAYLOAD_EXPECTED_ERROR = 17, "the payload is not signed"
    DOWNLOAD_PAYLOAD_PUB_KEY_VERIFICATION_ERROR = 18, "the payload's signature is wrong"
    POSTINSTALL_BOOTED_FROM_FIRMWARE_B = 19, "the machine runs from firmware B"
    DOWNLOAD_STATE_INITIALIZATION_ERROR = (
        20,
        "the payload starts from another version than the one on disk",
    )
    DOWNLOAD_INVALID_METADATA_MAGIC_STRING = 21, "the download is not a payload"
    DOWNLOAD_SIGNATURE_MISSING_IN_MANIFEST = 22, "the payload's manifest names no signature"
    DOWNLOAD_MANIFEST_PARSE_ERROR = 23, "the payload's manifest cannot be read"
    DOWNLOAD_METADATA_SIGNATURE_ERROR = 24, "the metadata signature cannot be read"
    DOWNLOAD_METADATA_SIGNATURE_VERIFICATION_ERROR = (
        25,
        "the metadata signature cannot be verified",
    )
    DOWNLOAD_METADATA_SIGNATURE_MISMATCH = 26, "the metadata signature is wrong"
    DOWNLOAD_OPERATION_HASH_VERIFICATION_ERROR = (
        27,
        "the digest of an operation could not be verified",
    )
    DOWNLOAD_OPERATION_EXECUTION_ERROR = 28, "an operation of the payload failed"
    DOWNLOAD_OPERATION_HASH_MISMATCH = 29, "an operation of the payload has another digest"
    OMAHA_REQUEST_EMPTY_RESPONSE_ERROR = 30, "the update server's answer was empty"
    OMAHA_REQUEST_XML_PARSE_ERROR = 31, "the update server's answer was not XML"
    DOWNLOAD_INVALID_METADATA_SIZE = 32, "the payload's metadata has another size than announced"
    DOWNLOAD_INVALID_METADATA_SIGNATURE = 33, "the metadata signature is not as announced"
    OMAHA_RESPONSE_INVALID = 34, "the update server's answer was an error or incomplete"
    OMAHA_UPDATE_IGNORED_PER_POLICY = 35, "the update was ignored by the machine's policy"
    OMAHA_UPDATE_DEFERRED_PER_POLICY = 36, "the update was deferred by the machine's policy"
    OMAHA_ERROR_IN_HTTP_RESPONSE = 37, "the update server answered an HTTP error"
    DOWNLOAD_OPERATION_HASH_MISSING_ERROR = 38, "an operation of the payload has no digest"
    DOWNLOAD_METADATA_SIGNATURE_MISSING_ERROR = 39, "the metadata signature is missing"
    OMAHA_UPDATE_DEFERRED_FOR_BACKOFF = 40, "the machine waits after earlier failures"
    POSTINSTALL_POWERWASH_ERROR = 41, "the powerwash could not be set up"
    NEW_PCR_POLICY_VERIFICATION_ERROR = 42, "the new PCR policy is not what it should be"
    NEW_PCR_POLICY_HTTP_ERROR = 43, "the new PCR policy could not be sent to its server"
    ROLLBACK = 44, "rolled back: the machine runs the old version after an applied update"
    DOWNLOAD_INCOMPLETE = 100, "the download is not complete yet"


class ErrorFlag(IntFlag):
    """Bits that say under which circumstances it went wrong."""

    TEST_OMAHA_URL = 1 << 28
    TEST_IMAGE = 1 << 29
    RESUMED = 1 << 30
    DEV_MODE = 1 << 31


_FLAG_WORDS = {
    ErrorFlag.RESUMED: "resumed update",
    ErrorFlag.TEST_IMAGE: "development image",
    ErrorFlag.DEV_MODE: "developer mode",
    ErrorFlag.TEST_OMAHA_URL: "other server than the public one",
}


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An errorcode taken apart.

    Attributes:
        code: As it was sent.
        base: Without flags.
        flags: Always with `TEST_OMAHA_URL` when the machine uses a mirror.
        name: Short and stable, for a metric or a log: `payload-hash-mismatch-error`, `http-404`.
        words: For people.
    """

    code: int
    base: int
    flags: ErrorFlag
    name: str
    words: str

    def __str__(self) -> str:
        flags = self.flags & ~ErrorFlag.TEST_OMAHA_URL
        notes = (f"error {self.base}", *(w for flag, w in _FLAG_WORDS.items() if flag in flags))
        return f"{self.words} ({', '.join(notes)})"


def describe_error(code: int) -> ErrorInfo:
    """Take an errorcode apart; any number has an answer.

    2000 and above is an HTTP status of the update server, 2000 itself no answer at all
    (omaha_request_action.cc:636). update_engine prints a set top bit as a minus sign.

    >>> print(describe_error(268435466))
    the payload has another SHA-256 than announced (error 10)
    """
    flags = ErrorFlag(0)
    base = code
    if -(1 << 31) <= code <= _BITS:
        flags = ErrorFlag(code & 0xF000_0000)
        base = code & 0x0FFF_FFFF
    known = ErrorCode.find(base)
    if known is not None:
        return ErrorInfo(code, base, flags, known.name.lower().replace("_", "-"), known.words)
    if base == HTTP_BASE:
        return ErrorInfo(code, base, flags, "no-answer", "the update server did not answer")
    if HTTP_BASE < base < HTTP_BASE + 1000:
        status = base - HTTP_BASE
        words = f"the update server answered HTTP {status}"
        return ErrorInfo(code, base, flags, f"http-{status}", words)
    return ErrorInfo(code, base, flags, "unknown", "an error that has no name here")


class AppStatus(StrEnum):
    """`response/app/@status`; Nebraska has many more that start with `error-`."""

    OK = "ok"
    RESTRICTED = "restricted"
    UNKNOWN_APPLICATION = "error-unknownApplication"
    INVALID_APP_ID = "error-invalidAppId"
    INVALID_VERSION = "error-invalidVersion"
    INTERNAL = "error-internal"
    FAILED_TO_RETRIEVE_UPDATE_PACKAGE_INFO = "error-failedToRetrieveUpdatePackageInfo"
    INSTANCE_REGISTRATION_FAILED = "error-instanceRegistrationFailed"
    UPDATE_IN_PROGRESS_ON_INSTANCE = "error-updateInProgressOnInstance"
    NO_PACKAGE_FOUND = "error-noPackageFound"
    UPDATES_DISABLED = "error-updatesDisabled"
    COULD_NOT_CHECK_UPDATES_STATS = "error-couldNotCheckUpdatesStats"
    MAX_UPDATES_PER_PERIOD_LIMIT_REACHED = "error-maxUpdatesPerPeriodLimitReached"
    MAX_CONCURRENT_UPDATES_LIMIT_REACHED = "error-maxConcurrentUpdatesLimitReached"
    MAX_TIMED_OUT_UPDATES_LIMIT_REACHED = "error-maxTimedOutUpdatesLimitReached"


class UpdateStatus(StrEnum):
    """`response/app/updatecheck/@status`; to a machine all but the first two are failures."""

    OK = "ok"
    NO_UPDATE = "noupdate"
    OS_NOT_SUPPORTED = "error-osnotsupported"
    UNSUPPORTED_PROTOCOL = "error-unsupportedProtocol"
    PLUGIN_RESTRICTED_HOST = "error-pluginRestrictedHost"
    HASH = "error-hash"
    INTERNAL = "error-internal"


class EventType(Code):
    """`event/@eventtype`: those of Omaha's protocol 3, and 800 of CoreUpdate."""

    UNKNOWN = 0, "unknown event"
    DOWNLOAD_COMPLETE = 1, "download complete"
    INSTALL_COMPLETE = 2, "install complete"
    UPDATE_COMPLETE = 3, "update complete"
    UNINSTALL = 4, "uninstall"
    DOWNLOAD_STARTED = 5, "download started"
    INSTALL_STARTED = 6, "install started"
    NEW_APPLICATION_INSTALL_STARTED = 9, "install of a new application started"
    SETUP_STARTED = 10, "set-up started"
    SETUP_FINISHED = 11, "set-up finished"
    UPDATE_APPLICATION_STARTED = 12, "update of the application started"
    UPDATE_DOWNLOAD_STARTED = 13, "download started"
    UPDATE_DOWNLOAD_FINISHED = 14, "download finished"
    UPDATE_INSTALLER_STARTED = 15, "installer started"
    SETUP_UPDATE_BEGIN = 16, "update of the updater started"
    SETUP_UPDATE_COMPLETE = 17, "update of the updater complete"
    REGISTER_PRODUCT_COMPLETE = 20, "product registered"
    OEM_INSTALL_FIRST_CHECK = 30, "first check of an OEM install"
    APP_SPECIFIC_COMMAND_STARTED = 40, "command of the application started"
    APP_SPECIFIC_COMMAND_ENDED = 41, "command of the application ended"
    SETUP_FAILURE = 100, "set-up failed"
    COM_SERVER_FAILURE = 102, "COM server failed"
    SETUP_UPDATE_FAILURE = 103, "update of the updater failed"
    UPDATE_INSTALLED = 800, "update installed, held by the machine"


class EventResult(Code):
    """`event/@eventresult`."""

    ERROR = 0, "error"
    SUCCESS = 1, "success"
    SUCCESS_REBOOT = 2, "success, rebooted"
    SUCCESS_RESTART_BROWSER = 3, "success, restart of the browser needed"
    CANCELLED = 4, "cancelled"
    ERROR_INSTALLER_MSI = 5, "MSI installer failed"
    ERROR_INSTALLER_OTHER = 6, "installer failed"
    NO_UPDATE = 7, "no update"
    INSTALLER_SYSTEM = 8, "system installer failed"
    UPDATE_DEFERRED = 9, "deferred"
    HANDOFF_ERROR = 10, "hand-off failed"


@lru_cache(256)
def describe_event(
    eventtype: int | None,
    eventresult: int | None,
    errorcode: int | None = None,
    previousversion: str | None = None,
) -> str:
    """An event in words, as update_engine means it (omaha_request_action.cc:114-140).

    >>> describe_event(3, 1)
    'update applied, waiting for the reboot'
    """
    match eventtype, eventresult:
        case EventType.UPDATE_DOWNLOAD_STARTED, EventResult.SUCCESS:
            return "download started"
        case EventType.UPDATE_DOWNLOAD_FINISHED, EventResult.SUCCESS:
            return "download finished and verified"
        case EventType.UPDATE_COMPLETE, EventResult.SUCCESS:
            return "update applied, waiting for the reboot"
        case EventType.UPDATE_COMPLETE, EventResult.SUCCESS_REBOOT:
            return _complete(previousversion)
        case EventType.UPDATE_COMPLETE, EventResult.ERROR:
            return _with_error("update failed", errorcode)
        case EventType.UPDATE_COMPLETE, EventResult.UPDATE_DEFERRED:
            return _with_error("update deferred", errorcode)
        case EventType.UPDATE_INSTALLED, EventResult.SUCCESS:
            return EventType.UPDATE_INSTALLED.words
    words = f"{_words(EventType, eventtype)}: {_words(EventResult, eventresult)}"
    return _with_error(words, errorcode)


def _complete(previousversion: str | None) -> str:
    """The words of event 3/2, which every check contains; only one with a real previous version means an update."""
    match previousversion:
        case None:
            return "update complete"
        case "":
            return "running, nothing new since the last check"
        case "0.0.0.0":  # noqa: S104 - a version
            return "first check of this machine"
        case _:
            return f"update complete, rebooted from {previousversion}"


def _with_error(words: str, errorcode: int | None) -> str:
    if errorcode is None or errorcode == ErrorCode.SUCCESS:
        return words
    error = describe_error(errorcode)
    if error.base == ErrorCode.ROLLBACK:
        return str(error)
    return f"{words}: {error}"


def _words(codes: type[Code], value: int | None) -> str:
    known = codes.find(value)
    return known.words if known is not None else f"unknown ({value})"
