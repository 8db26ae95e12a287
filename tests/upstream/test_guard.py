"""Tests reach nothing outside loopback."""

import socket

import pytest

from tests.conftest import DialledOutsideError


def test_a_dial_outside_loopback_is_refused() -> None:
    with socket.socket() as sock, pytest.raises(DialledOutsideError):
        sock.connect(("192.0.2.1", 80))


def test_a_look_up_of_a_real_name_is_refused() -> None:
    with pytest.raises(DialledOutsideError):
        socket.getaddrinfo("update.release.flatcar-linux.net", 443)


def test_a_datagram_outside_loopback_is_refused() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(DialledOutsideError),
    ):
        sock.sendto(b"x", ("192.0.2.1", 53))
