"""What the exit status of a command says."""

from enum import IntEnum


class Exit(IntEnum):
    """0 to 2 are everybody's, 78 is EX_CONFIG of sysexits(3), 130 is 128 + SIGINT."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    VERIFICATION_FAILED = 4
    UPSTREAM_UNREACHABLE = 5
    BAD_CONFIG = 78
    INTERRUPTED = 130
