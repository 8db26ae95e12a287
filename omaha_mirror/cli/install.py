"""`omaha-mirror install` and `uninstall`: set up an installed package as a systemd service, and remove it.

Both make a list of steps first, then print each step and, without --dry-run, run it. A config that the operator may have
changed is never overwritten; cache and state are deleted only with --purge.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

import omaha_mirror
from omaha_mirror.cli.exits import Failure

UNITS = (
    "omaha-mirror.service",
    "omaha-mirror.socket",
    "omaha-mirror-fetch@.service",
    "omaha-mirror-fetch@.timer",
)
UNIT_DIRECTORY = Path("etc/systemd/system")
CONFIG = Path("etc/omaha-mirror/config.yaml")
PACKAGED = "/usr/bin/omaha-mirror"
"""The program's path in the units as they are shipped."""
DEFAULTS = {
    "#cache:\n": "cache:\n",
    "#  directory: /var/cache": "  directory: /var/cache",
    "#state_directory: /var/lib": "state_directory: /var/lib",
}
"""Lines of the example, with those of the first config: the service's own directories, so that commands in a shell use the same."""
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 (compared with, not written to)
"""Directories that the sandbox hides from the service."""
DATA = ("var/cache/private", "var/cache", "var/lib/private", "var/lib")
SYSTEMCTL_LIMIT = 120.0


@dataclass(frozen=True, slots=True)
class Write:
    """Create a file, or replace its text."""

    path: Path
    text: str

    def do(self) -> None:
        """Replace the file in one step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_name(f".{self.path.name}.new")
        new.write_text(self.text, encoding="utf-8")
        new.chmod(0o644)
        new.replace(self.path)

    def __str__(self) -> str:
        return f"write {self.path}"


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete a file, a link or a directory."""

    path: Path

    def do(self) -> None:
        """Delete it if it exists; of a link, not its target."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)

    def __str__(self) -> str:
        return f"remove {self.path}"


@dataclass(frozen=True, slots=True)
class Run:
    """Call systemctl."""

    arguments: tuple[str, ...]

    def do(self) -> None:
        """Run systemctl."""
        try:
            subprocess.run(("systemctl", *self.arguments), check=True, timeout=SYSTEMCTL_LIMIT)  # noqa: S603, S607 (fixed arguments; the one in PATH)
        except subprocess.SubprocessError as error:
            raise OSError(str(error)) from error

    def __str__(self) -> str:
        return f"run systemctl {' '.join(self.arguments)}"


Step = Write | Remove | Run
"""One step; `str()` of it is its line of output, also after "would". `do` raises OSError."""


def install(root: Path, dry_run: bool) -> None:
    """Write the units and a first config, and print what to do next."""
    program = program_in(root)
    was_there = (root / UNIT_DIRECTORY / UNITS[0]).exists()
    if (root / CONFIG).exists():
        click.echo(f"{root / CONFIG} stays as it is")
    perform(installation(root, program), dry_run=dry_run)
    action = "restart omaha-mirror.service" if was_there else f"enable --now {' '.join(UNITS[:2])}"
    click.echo(f"Next:\n  systemctl daemon-reload\n  systemctl {action}")


def uninstall(root: Path, dry_run: bool, purge: bool) -> None:
    """Stop the service, delete its files, and print which stay."""
    perform(removal(root, purge=purge), dry_run=dry_run)
    for kept in (root / CONFIG, *data(root)):
        if not purge and kept.exists():
            click.echo(f"{kept} stays")


def perform(steps: Sequence[Step], *, dry_run: bool) -> None:
    """Run all steps in their order, and print each. Raises Failure at the first that fails."""
    for step in steps:
        if dry_run:
            click.echo(f"would {step}")
            continue
        try:
            step.do()
        except OSError as error:
            hint = "; run it as root" if isinstance(error, PermissionError) else ""
            raise Failure(f"cannot {step}: {error.strerror or error}{hint}") from None
        click.echo(str(step))
    if not steps:
        click.echo("nothing to do")


def program_in(root: Path) -> str:
    """The program's path inside the service's sandbox. Raises Failure if the service could not run it."""
    script = Path(sysconfig.get_path("scripts"), "omaha-mirror")
    if not script.exists():
        raise Failure(f"there is no {script}: install the package first")
    program = f"/{script.relative_to(root)}" if script.is_relative_to(root) else str(script)
    needed = [program] if root != Path("/") else [program, os.path.realpath(sys.executable)]
    for path in needed:
        if path.startswith(tuple(f"{hidden}/" for hidden in HIDDEN)):
            raise Failure(
                f"the service cannot see {path}: install the package into a virtual environment under"
                " /opt, made with the system's own Python"
            )
    if not re.fullmatch(r"[A-Za-z0-9/._+-]+", program):
        raise Failure(f"{program!r} cannot be written in a unit: use a plain path")
    return program


def installation(root: Path, program: str) -> list[Write]:
    """The files of a service with this program that are missing or differ."""
    wanted = [
        Write(
            root / UNIT_DIRECTORY / name,
            (_shipped() / "systemd" / name).read_text(encoding="utf-8").replace(PACKAGED, program),
        )
        for name in UNITS
    ]
    if not (root / CONFIG).exists():
        wanted.append(Write(root / CONFIG, first_config()))
    return [write for write in wanted if not _holds(write.path, write.text)]


def removal(root: Path, *, purge: bool) -> list[Step]:
    """The steps that stop the service and delete its files, as far as they exist."""
    units = [path for name in UNITS if (path := root / UNIT_DIRECTORY / name).exists()]
    links = sorted((root / UNIT_DIRECTORY).glob("*.wants/omaha-mirror*"))
    gone: list[Path] = [*units, *links]
    if purge:
        gone += [path for path in (root / CONFIG.parent, *data(root)) if os.path.lexists(path)]
    elif _holds(root / CONFIG, first_config()):
        gone.append(root / CONFIG)
    steps: list[Step] = [Remove(path) for path in gone]
    if units and (root / "run/systemd/system").is_dir():
        names = [*UNITS[:2], *(link.name for link in links if link.name not in UNITS)]
        return [Run(("disable", "--now", *names)), *steps, Run(("daemon-reload",))]
    return steps


def data(root: Path) -> Iterator[Path]:
    """Cache and state; with DynamicUser= the plain names are links into `private`."""
    for parent in DATA:
        path = root / parent / "omaha-mirror"
        if os.path.lexists(path):
            yield path


def first_config() -> str:
    """The example, with the service's directories written down."""
    text = (_shipped() / "config.example.yaml").read_text(encoding="utf-8")
    for commented, plain in DEFAULTS.items():
        text = text.replace(commented, plain)
    return text


def _shipped() -> Path:
    """Where the units and the example are: in an installed package, or at the top of a checkout."""
    package = Path(omaha_mirror.__file__).parent
    packaged = package / "_share"
    return packaged if packaged.is_dir() else package.parent


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()
