"""How a command ends: its exit status, and the error that it prints."""

from enum import IntEnum


class Exit(IntEnum):
    """0 to 2 are common to all programs, 70 and 78 are EX_SOFTWARE and EX_CONFIG of sysexits(3), 130 is 128 + SIGINT."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    VERIFICATION_FAILED = 4
    UPSTREAM_UNREACHABLE = 5
    DEFECT = 70
    BAD_CONFIG = 78
    INTERRUPTED = 130


MEANINGS = {
    Exit.OK: "The command succeeded.",
    Exit.FAILURE: "The command failed; standard error says why.",
    Exit.USAGE: "The command line is wrong.",
    Exit.NOT_FOUND: "The release, track, machine or blob does not exist.",
    Exit.VERIFICATION_FAILED: "Bytes do not match their size, digest or signature.",
    Exit.UPSTREAM_UNREACHABLE: "Upstream, or the server that the command asked, does not answer.",
    Exit.DEFECT: "The program has a defect; --traceback shows where.",
    Exit.BAD_CONFIG: "The config cannot be used; each mistake is printed with its place.",
    Exit.INTERRUPTED: "Ctrl-C interrupted the command.",
}


class Failure(Exception):
    """Ends a command.

    Args:
        message: what happened, where, and what to do next.
        exit_: the exit status.
        prefix: what stands before the message.
    """

    def __init__(
        self, message: str, exit_: Exit = Exit.FAILURE, *, prefix: str = "Error: "
    ) -> None:
        super().__init__(message)
        self.exit = exit_
        self.prefix = prefix
