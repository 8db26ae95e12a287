"""The units are good in systemd's own eyes, and what they name exists."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from omaha_mirror.cli.exits import Exit
from omaha_mirror.cli.install import UNITS
from omaha_mirror.cli.main import cli
from omaha_mirror.cli.serve import ADMIN, PUBLIC
from omaha_mirror.config.model import ALL_INTERFACES
from omaha_mirror.web.admin.token import CREDENTIAL, CREDSTORE

SYSTEMD = Path(__file__).parents[2] / "systemd"
needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is missing: apt-get install systemd",
)
SERVICES = [name for name in UNITS if name.endswith(".service")]


def values(name: str, key: str) -> list[str]:
    """All that a unit sets a key to."""
    return re.findall(rf"^{key}=(.*)$", (SYSTEMD / name).read_text(), re.M)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that exists and templates as instances."""
    for name in UNITS:
        text = (SYSTEMD / name).read_text().replace("/usr/bin/omaha-mirror", "/bin/true")
        (tmp_path / name.replace("@", "@stable")).write_text(text)
    return tmp_path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@needs_analyze
def test_systemd_finds_nothing_to_say_about_the_units(units: Path) -> None:
    done = analyze("verify", "--man=no", *map(str, sorted(units.iterdir())))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_analyze
@pytest.mark.parametrize("name", SERVICES)
def test_the_exposure_is_below_two(units: Path, name: str) -> None:
    path = units / name.replace("@", "@stable")
    done = analyze("security", "--offline=true", "--threshold=20", "--no-pager", str(path))
    assert done.returncode == 0, done.stdout
    (exposure,) = re.findall(r"exposure level for .*: (\d+\.\d)", done.stdout)
    assert float(exposure) < 2


def test_all_units_are_known_to_the_installer() -> None:
    assert sorted(UNITS) == sorted(path.name for path in SYSTEMD.iterdir())


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_runs_commands_of_the_mirror_and_nothing_else(name: str) -> None:
    for line in values(name, "Exec[A-Z][A-Za-z]*"):
        program, command, *_ = line.split()
        assert program == "/usr/bin/omaha-mirror"
        assert command in cli.commands


@pytest.mark.parametrize("name", SERVICES)
def test_a_units_credential_is_the_one_that_is_looked_for(name: str) -> None:
    assert values(name, "LoadCredential") == [f"{CREDENTIAL}:{CREDSTORE.name}"]


def test_both_services_have_the_same_sandbox() -> None:
    sandboxes = [
        set(re.findall(r"^(?!#).*$", (SYSTEMD / name).read_text().partition("Capability")[2], re.M))
        - {"[Install]", "Also=omaha-mirror.socket", "WantedBy=multi-user.target"}
        for name in SERVICES
    ]
    assert sandboxes[0] == sandboxes[1]


def test_the_socket_is_the_public_one_where_the_config_would_listen() -> None:
    assert values("omaha-mirror.socket", "FileDescriptorName") == [PUBLIC]
    assert PUBLIC != ADMIN
    assert values("omaha-mirror.socket", "ListenStream") == [str(ALL_INTERFACES)]


def test_a_bad_config_is_not_tried_again() -> None:
    assert values("omaha-mirror.service", "RestartPreventExitStatus") == [str(int(Exit.BAD_CONFIG))]


@pytest.mark.parametrize("name", UNITS)
def test_no_unit_waits_for_the_time(name: str) -> None:
    """Where systemd-time-wait-sync is enabled and no NTP server answers, it would never start."""
    assert "time-sync" not in (SYSTEMD / name).read_text()


def test_the_service_may_ask_whether_the_clock_is_synchronised() -> None:
    """ProtectClock= takes away the system calls that ask, with those that set."""
    text = (SYSTEMD / "omaha-mirror.service").read_text()
    assert "ProtectClock=" not in text
    assert text.index("SystemCallFilter=adjtimex") > text.index("SystemCallFilter=~@privileged")
    assert "CapabilityBoundingSet=\n" in text
