"""What the mirror is made of is locked by digest, listed, and can be held against what is installed."""

import base64
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
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
    locked = {normal(package.name): package for package in supply.locked(ROOT / name)}
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


def installed(folder: Path, body: bytes) -> None:
    """A package with one file, as pip leaves it."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
    info = folder / "made_up-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "made_up.py").write_bytes(body)
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: made-up\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"made_up.py,sha256={digest},{len(body)}\n")


@pytest.mark.parametrize(
    ("version", "change", "words"),
    [
        ("1.0", None, None),
        ("1.1", None, "1.1 is locked"),
        ("1.0", b"changed", "not what was installed"),
    ],
)
def test_an_audit_finds_what_is_not_as_locked(
    supply: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    change: bytes | None,
    words: str | None,
) -> None:
    installed(tmp_path, b"x = 1\n")
    if change is not None:
        (tmp_path / "made_up.py").write_bytes(change)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = list(supply.audit([supply.Locked("made-up", version, ("0" * 64,))]))
    assert [words in line for line in found] == ([] if words is None else [True])
    assert list(supply.audit([supply.Locked("not-there", "1", ())])) == [
        "not-there is not installed"
    ]
