"""Cold pages are seen without waiting for the disk, and loaded."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from omaha_mirror.cache.page_cache import READ, load, resident

SIZE = 2 * READ + 17


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """A file whose pages the kernel was asked to drop."""
    path = tmp_path / "blob"
    path.write_bytes(os.urandom(SIZE))
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    yield fd
    os.close(fd)


def test_cold_pages_are_seen(fd: int) -> None:
    assert not resident(fd, 0, SIZE)


@pytest.mark.parametrize(
    ("offset", "count"), [(0, SIZE), (SIZE - 1, 1), (4096, 1), (READ - 1, READ + 2)]
)
def test_what_was_loaded_is_resident(fd: int, offset: int, count: int) -> None:
    load(fd, offset, count)
    assert resident(fd, offset, count)


def test_loading_needs_a_readable_file() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        load(-1, 0, 1)
    assert not resident(-1, 0, 1)
