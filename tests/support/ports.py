"""Ports for servers that are told theirs before they start."""

import random
import socket
from contextlib import suppress

from omaha_mirror.config import Address

HOST = "127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel gives to clients, who may take one that was just free."""
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


def free_address() -> Address:
    """The same as an address of loopback."""
    return Address(HOST, free_port())
