"""What the mirror is made of is locked by digest, listed, and can be held against what is installed."""

import base64
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "packaging" / "supply.py"
LOCKS = {"requirements-run.txt": (), "requirements-test.txt": ("test", "lint")}


@pytest.fixture(scope="module")
def supply() -> Any:
    spec = importlib.util.spec_from_file_location("supply", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["supply"] = module
    spec.loader.exec_module(module)
    return module


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", LOCKS)
def test_every_dependency_is_locked_with_digests(supply: Any, name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [project["optional-dependencies"][extra] for extra in LOCKS[name]]
    wanted = [*project["dependencies"], *(line for extra in extras for line in extra), "hatchling"]
    names = {normal(re.split(r"[\[<>=]", line)[0]) for line in wanted}
    locked = {package.name: package for package in supply.locked(ROOT / name)}
    assert names - set(locked) == set()
    assert all(package.hashes for package in locked.values())


def test_both_locks_agree(supply: Any) -> None:
    run, test = ({(p.name, p.version) for p in supply.locked(ROOT / name)} for name in LOCKS)
    assert run <= test


@pytest.mark.parametrize("name", LOCKS)
def test_no_lock_says_where_packages_come_from(name: str) -> None:
    text = (ROOT / name).read_text()
    assert re.search(r"https?:|--(extra-)?index-url|--find-links|file:", text) is None


@pytest.mark.parametrize("line", ["aiohttp>=3", "aiohttp==3.14.5", "-e .", "git+https://example/x"])
def test_what_is_not_locked_is_refused(supply: Any, tmp_path: Path, line: str) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(f"{line}\n")
    with pytest.raises(ValueError, match="not locked"):
        supply.locked(lock)


def test_the_sbom_lists_all_of_it_and_is_always_the_same(supply: Any) -> None:
    first, again = (
        subprocess.run([sys.executable, SCRIPT, "sbom"], capture_output=True, check=True).stdout
        for _ in range(2)
    )
    assert first == again
    told = json.loads(first)
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    assert [c["purl"] for c in told["components"]] == [p.purl for p in supply.locked()]
    for component in told["components"]:
        [reference] = component["externalReferences"]
        assert all(re.fullmatch("[0-9a-f]{64}", h["content"]) for h in reference["hashes"])


@pytest.mark.parametrize("name", ["Makefile", "packaging/build-deb", "packaging/Containerfile"])
def test_what_runs_is_installed_as_locked_or_without_a_line(name: str) -> None:
    script = (ROOT / name).read_text().replace("\\\n", " ").replace("&&", "\n")
    installs = re.findall(
        r'^(?!install=).*(?:pip (?:.* )?install |"\$\{install\[@\]\}").*$', script, re.M
    )
    # `make lock` and `make audit-online` have their tools in an environment of their own.
    installs = [line for line in installs if "uv pip-audit" not in line]
    assert ["--require-hashes" in line for line in installs] == [True, False]
    assert ["--no-index" in line for line in installs] == [False, True]


def in_record(body: bytes) -> str:
    """A SHA-256 as wheels write it."""
    return base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()


class Environment:
    """A virtual environment, a lock, and wheels to install from, all below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = folder / "lock.txt"
        self.packages = folder / "env" / "lib" / f"python3.{sys.version_info.minor}/site-packages"
        self._python = folder / "env" / "bin" / "python"
        self._wheels = folder / "wheels"

    def create(self) -> None:
        """There is nothing in it yet."""
        venv.create(self.folder / "env", symlinks=True)
        self._wheels.mkdir()

    def wheel(self, name: str, version: str) -> str:
        """Make one that has a module. Its line in a lock."""
        path = self._wheels / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        files = {
            f"{name}.py": f"version = {version!r}\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        files[f"{info}/RECORD"] = "".join(
            f"{file},sha256={in_record(text.encode())},\n" for file, text in files.items()
        )
        with zipfile.ZipFile(path, "w") as wheel:
            for file, text in files.items():
                wheel.writestr(file, text)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return f"{name}=={version} --hash=sha256:{digest}\n"

    def install(self, *arguments: str | Path) -> None:
        """By pip; raises CalledProcessError where that refuses."""
        pip = (sys.executable, "-m", "pip", "--isolated", "--python", self._python, "install")
        subprocess.run(
            [*pip, "--quiet", "--no-index", "--find-links", self._wheels, *arguments],
            capture_output=True,
            check=True,
            timeout=60,
            env={**os.environ, "PIP_CONFIG_FILE": os.devnull},
        )

    def audit(self) -> tuple[int, list[str]]:
        """The exit status, and what is wrong."""
        done = subprocess.run(
            [self._python, "-I", SCRIPT, "audit", self.lock],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, [
            line.removeprefix("WRONG: ") for line in done.stderr.splitlines() if line
        ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where an environment is as its lock says: pip made it."""
    environment = Environment(tmp_path_factory.mktemp("made"))
    environment.create()
    environment.lock.write_text(
        environment.wheel("made_up", "1.0") + environment.wheel("another", "2.0")
    )
    environment.install("--require-hashes", "--requirement", environment.lock)
    return environment.folder


@pytest.fixture
def environment(tmp_path: Path, made: Path) -> Environment:
    """A copy that a test may spoil."""
    shutil.copytree(made, tmp_path, symlinks=True, dirs_exist_ok=True)
    return Environment(tmp_path)


def another_version(environment: Environment) -> None:
    environment.wheel("made_up", "1.1")
    environment.install("made-up==1.1")


def an_altered_file(environment: Environment) -> None:
    (environment.packages / "made_up.py").write_text("version = '6.6'\n")


def a_file_gone(environment: Environment) -> None:
    (environment.packages / "made_up.py").unlink()


def an_extra_package(environment: Environment) -> None:
    environment.wheel("stowaway", "0.1")
    environment.install("stowaway")


def an_extra_file(environment: Environment) -> None:
    (environment.packages / "sitecustomize.py").touch()


def a_package_gone(environment: Environment) -> None:
    environment.lock.write_text(environment.lock.read_text() + environment.wheel("gone", "1"))


def no_record(environment: Environment) -> None:
    (environment.packages / "made_up-1.0.dist-info" / "RECORD").unlink()


def test_an_environment_as_locked_has_nothing_wrong(environment: Environment) -> None:
    elsewhere = environment.wheel("elsewhere", "1").replace(" ", " ; python_version < '3' ", 1)
    environment.lock.write_text(environment.lock.read_text() + elsewhere)
    assert environment.audit() == (0, [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (another_version, "made-up is 1.1, and 1.0 is locked"),
        (an_altered_file, "made-up: made_up.py is not what was installed"),
        (a_file_gone, "made-up: made_up.py is not what was installed"),
        (an_extra_package, "stowaway 0.1 is installed, and not locked"),
        (an_extra_file, "sitecustomize.py belongs to no package"),
        (a_package_gone, "gone is not installed"),
        (no_record, "made-up has no RECORD of its files"),
    ],
)
def test_an_audit_finds(
    environment: Environment, change: Callable[[Environment], None], words: str
) -> None:
    change(environment)
    status, wrong = environment.audit()
    assert status == 1
    assert wrong[0] == words
    assert len(wrong) == 1 or change is no_record


def test_pip_refuses_a_file_that_is_not_as_locked(tmp_path: Path) -> None:
    environment = Environment(tmp_path)
    environment.create()
    line = environment.wheel("made_up", "1.0")
    environment.lock.write_text(line.partition("sha256:")[0] + "sha256:" + "0" * 64)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        environment.install("--require-hashes", "--requirement", environment.lock)
    assert b"HASHES" in refused.value.stderr
