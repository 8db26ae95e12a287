"""What can be wrong with a payload, and with a key."""


class PayloadError(Exception):
    """The bytes are no payload that a client would take.

    Attributes:
        message: one line for people: what is wrong, and what was expected.
        offset: the byte of the file where it shows.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} (at byte {offset})")
        self.message = message
        self.offset = offset


class NotAPayload(PayloadError):
    """The file is something else."""


class BadKey(Exception):
    """A public key cannot be used; the message says which and why."""
