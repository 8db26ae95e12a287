"""Sizes, durations and listening addresses: read and written in the form that people use."""

import ipaddress
import math
import re
from dataclasses import dataclass

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40

_SIZES = {
    "B": 1,
    "kB": 10**3,
    "KiB": KIB,
    "MB": 10**6,
    "MiB": MIB,
    "GB": 10**9,
    "GiB": GIB,
    "TB": 10**12,
    "TiB": TIB,
}
_SIZES_BY_LOWER_CASE = {unit.lower(): factor for unit, factor in _SIZES.items()}
_SIZE = re.compile(r"(\d{1,20})\s*([A-Za-z]*)", re.ASCII)

_DURATIONS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
"""Milliseconds of each unit, longest first: the order in which a duration is written."""
_DURATION = re.compile("".join(rf"(?:(\d{{1,9}}){unit})?" for unit in _DURATIONS), re.ASCII)

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?", re.ASCII)


def parse_size(value: object) -> int:
    """Bytes of a size such as `10GiB`, `500 MB` or the plain number of bytes 1048576.

    `KiB` to `TiB` are powers of 1024, `kB` to `TB` powers of 1000 (IEC 80000-13); case is ignored.

    Raises:
        ValueError: It is not a size; the message says how one is written.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    factor = _SIZES_BY_LOWER_CASE.get(match[2].lower() or "b") if match else None
    if match is None or factor is None:
        raise ValueError(
            f"{value!r} is not a size: write a whole number and one of "
            f"{', '.join(_SIZES)}, such as 10GiB"
        )
    return int(match[1]) * factor


def format_size(size: int) -> str:
    """A size in bytes as people write it, exactly: `parse_size(format_size(n)) == n`."""
    units = (unit for unit, factor in _SIZES.items() if size % factor == 0)
    unit = max(units, key=_SIZES.__getitem__) if size else "B"
    return f"{size // _SIZES[unit]}{unit}"


def refuse_bare_number(value: object, usual: str = "s") -> None:
    """Raises ValueError for a number without a unit, except 0; the message suggests the unit `usual`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value and math.isfinite(value):
            raise ValueError(_no_duration(value, f"{value}{usual}"))
    elif isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value, re.ASCII):
        raise ValueError(_no_duration(value, f"{value.strip()}{usual}"))


def _no_duration(value: object, meant: str = "30s") -> str:
    meant = meant if _DURATION.fullmatch(meant) else "30s"
    return (
        f"{value!r} is not a duration: write whole numbers with d, h, m, s or ms, "
        f"longest first, such as {meant} or 1h30m"
    )


def parse_duration(value: object) -> float:
    """Seconds of a duration such as `30s`, `1h30m`, `90d` or `500ms`; a plain number is seconds.

    Raises:
        ValueError: It is not a duration; the message says how one is written.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    text = value.strip() if isinstance(value, str) else ""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(_no_duration(value))
    counts = zip(match.groups(default="0"), _DURATIONS.values(), strict=True)
    return sum(int(count) * factor for count, factor in counts) / 1000


def format_duration(seconds: float) -> str:
    """A duration in seconds as people write it, to the millisecond."""
    rest, parts = round(seconds * 1000), []
    for unit, factor in _DURATIONS.items():
        count, rest = divmod(rest, factor)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


_FROM_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (replaced, not bound to)


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on. An empty host is every interface; port 0 is any free port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `host:port`, `[::1]:8000` or `:8000`.

        Raises:
            ValueError: It is not an address; the message says how one is written.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError(
                f'{text!r} is not host:port: write "0.0.0.0:8000", ":8000" or "[::]:8000"'
            )
        return cls(host=parse_host(host) if host else "", port=int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can connect to it; of the names, only `localhost` counts."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def is_everywhere(self) -> bool:
        """Whether it is every interface."""
        return self.host in ("", *_FROM_HERE)

    def meets(self, other: "Address") -> bool:
        """Whether both cannot be bound at the same time: same port, common interface. Port 0 never conflicts."""
        if self.port != other.port or not self.port:
            return False
        if not self._versions & other._versions:
            return False
        here = {self.host, other.host}
        same = len(here) == 1 or (self.is_loopback and other.is_loopback and "localhost" in here)
        return same or self.is_everywhere or other.is_everywhere

    @property
    def _versions(self) -> set[int]:
        """The IP versions of the address, or of those that its name may have."""
        try:
            return {ipaddress.ip_address(self.host).version}
        except ValueError:
            return {4, 6}

    @property
    def from_here(self) -> "Address":
        """The address for a client on this host: loopback in place of every interface."""
        return Address(_FROM_HERE.get(self.host or "0.0.0.0", self.host), self.port)  # noqa: S104 (replaced)

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


def parse_host(text: str) -> str:
    """A host name or IP address, in lower case; an IPv6 address is written in brackets, kept without.

    Raises:
        ValueError: It is neither; the message says which part is wrong.
    """
    if text.startswith("[") and text.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            raise ValueError(f"{text!r} is not an IPv6 address in brackets") from None
    if ":" in text:
        raise ValueError(f"{text!r} is not a host: an IPv6 address goes in brackets, such as [::1]")
    if not _HOST.fullmatch(text):
        raise ValueError(f"{text!r} is not a host name or an IP address")
    return text.lower()


def bracketed(host: str) -> str:
    """A host in the form before `:port`."""
    return f"[{host}]" if ":" in host else host
