"""`make deb`, and what the package does to a system."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from omaha_mirror import __version__
from omaha_mirror.cli.install import CONFIG, UNITS, first_config

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        shutil.which("dpkg-deb") is None or not Path(PYTHON).exists(),
        reason="dpkg-deb or Debian's python3 is missing: this is no Debian",
    ),
]


def run(*command: str | Path, **environ: str) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env={**os.environ, **environ},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("deb")
    run(ROOT / "packaging/build-deb", out)
    (package,) = out.iterdir()
    return package


class System:
    """A root directory with dpkg's books and nothing else. It is no chroot: the scripts run here, on $DPKG_ROOT."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("updates", "info", "triggers"):
            (root / "var/lib/dpkg" / name).mkdir(parents=True)
        for name in ("status", "available"):
            (root / "var/lib/dpkg" / name).touch()

    def dpkg(self, *arguments: str | Path) -> None:
        force = "depends,not-root,script-chrootless,bad-path"
        run("dpkg", f"--root={self.root}", f"--force-{force}", "--log=/dev/null", *arguments)

    def enabled(self) -> Sequence[str]:
        """The units that systemd would start."""
        return sorted(path.name for path in self.root.glob("etc/systemd/system/*.wants/*"))


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path / "root")


def test_it_installs_upgrades_goes_and_is_purged(system: System, package: Path) -> None:
    system.dpkg("--install", package)
    program = system.root / "opt/omaha-mirror/bin/python3"
    assert run(program, "-m", "omaha_mirror", "--version").endswith(f"version {__version__}\n")
    assert (system.root / CONFIG).read_text() == first_config()
    assert system.enabled() == ["omaha-mirror.service", "omaha-mirror.socket"]

    (system.root / CONFIG).write_text("tracks: {stable: hold}\n")
    state = system.root / "var/lib/private/omaha-mirror"
    state.mkdir(parents=True)
    system.dpkg("--install", package)
    assert (system.root / CONFIG).read_text() == "tracks: {stable: hold}\n"

    system.dpkg("--remove", "omaha-mirror")
    assert not (system.root / "opt/omaha-mirror").exists()
    assert (system.root / CONFIG).exists()
    assert state.exists()

    system.dpkg("--purge", "omaha-mirror")
    assert not (system.root / CONFIG.parent).exists()
    assert not state.exists()
    assert system.enabled() == []


def test_the_paths_in_it_fit_together(tmp_path: Path, package: Path) -> None:
    run("dpkg-deb", "--extract", package, tmp_path)
    (tmp_path / "usr/bin/omaha-mirror").readlink().relative_to("/opt/omaha-mirror/bin")
    script = (tmp_path / "opt/omaha-mirror/bin/omaha-mirror").read_text()
    assert script.startswith("#!/opt/omaha-mirror/bin/python3\n")
    for name in UNITS:
        unit = (tmp_path / "lib/systemd/system" / name).read_text()
        assert unit == (ROOT / "systemd" / name).read_text()
    assert "/tmp" not in (tmp_path / "opt/omaha-mirror/pyvenv.cfg").read_text()
