"""Small file systems, where this may be mounted."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, *, size: int = 1 << 24, files: int = 1000) -> Iterator[Path]:
    """A file system of its own, with room for so many bytes and files. Skips a test where none can be mounted."""
    place.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("there is no mount")
    options = f"size={size},nr_inodes={files}"
    done = subprocess.run([mount, "-t", "tmpfs", "-o", options, "none", str(place)], check=False)
    if done.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield place
    finally:
        subprocess.run([umount, "-l", str(place)], check=True)


def fill_up(place: Path) -> None:
    """Leave not one byte."""
    with (place / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
