"""What can be wrong with a bundle."""


class BadBundle(Exception):
    """It is damaged, incomplete or not one at all; the message is for people."""


class NotSaid(Exception):
    """A folder does not say of itself what must be known; the message says how to say it."""
