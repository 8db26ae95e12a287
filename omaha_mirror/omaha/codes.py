"""Omaha's numbers and status words, and what they mean.

A code that has no name here is kept and described by its number: none is ever refused.
"""

from enum import StrEnum

from omaha_mirror.omaha.exit_codes import Code, ErrorCode, describe_error


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
    """Event 3/2 comes with every check; only a real previous version tells of an update."""
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
