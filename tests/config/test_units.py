import pytest
from hypothesis import given
from hypothesis import strategies as st

from omaha_mirror.config.units import (
    Address,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1048576),
        (1048576, 1048576),
        ("7B", 7),
        ("1kB", 1000),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("500 MB", 500_000_000),
        ("64MiB", 64 * 2**20),
        ("2GB", 2 * 10**9),
        ("10GiB", 10 * 2**30),
        (" 10gib ", 10 * 2**30),
        ("3TB", 3 * 10**12),
        ("3TiB", 3 * 2**40),
    ],
)
def test_sizes_are_read(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "GiB", "10G", "1.5GiB", "-1B", "10 GBB", "1GiB1", "٣GiB", "9" * 30, True, 1.5, None],
)
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size: write a whole number"):
        parse_size(text)


@given(st.integers(min_value=0, max_value=2**60))
def test_a_size_is_written_back_exactly(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1, "1B"), (1536, "1536B"), (2**20, "1MiB"), (50 * 2**30, "50GiB"), (10**9, "1GB")],
)
def test_a_size_is_written_in_its_largest_exact_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("500ms", 0.5),
        ("30s", 30),
        ("15m", 900),
        ("48h", 172_800),
        ("90d", 7_776_000),
        ("1h30m", 5400),
        ("1m500ms", 60.5),
        (30, 30),
        (0.25, 0.25),
    ],
)
def test_durations_are_read(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "30 s", "m", "30m1h", "1h1h", "-1s", "1.5h", "1w", True]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration: write whole numbers"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**12))
def test_a_duration_is_written_back_to_the_millisecond(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


def test_a_duration_is_written_longest_unit_first() -> None:
    assert format_duration(90 * 86_400 + 5400.5) == "90d1h30m500ms"
    assert format_duration(0) == "0s"


@pytest.mark.parametrize(
    ("text", "address", "written"),
    [
        ("0.0.0.0:8000", Address("0.0.0.0", 8000), "0.0.0.0:8000"),
        (":8000", Address("", 8000), ":8000"),
        ("[::1]:8000", Address("::1", 8000), "[::1]:8000"),
        ("[0:0::1]:0", Address("::1", 0), "[::1]:0"),
        ("Mirror.Example:65535", Address("mirror.example", 65535), "mirror.example:65535"),
    ],
)
def test_addresses_are_read_and_written(text: str, address: Address, written: str) -> None:
    assert Address.parse(text) == address
    assert str(address) == written


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("8000", "is not host:port"),
        ("mirror", "is not host:port"),
        ("mirror:", "is not host:port"),
        ("mirror:65536", "is not host:port"),
        ("mirror:http", "is not host:port"),
        ("::1:8000", "goes in brackets"),
        ("[::1:8000", "goes in brackets"),
        ("[mirror]:8000", "is not an IPv6 address"),
        ("http://mirror:8000", "goes in brackets"),
        ("a b:8000", "is not a host name"),
        ("-mirror:8000", "is not a host name"),
    ],
)
def test_what_is_no_address_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Address.parse(text)
