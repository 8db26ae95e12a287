"""What the mirror is made of: an SBOM of the locked dependencies, and an audit of those that are installed.

    python -I packaging/supply.py sbom > sbom.json     CycloneDX 1.6, as JSON
    python -I packaging/supply.py audit [LOCK]         without a line; exits 1 where something is wrong

Run it with the Python of the virtual environment that is meant. Only the standard library is needed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import sysconfig
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements-run.txt"
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
UNLOCKED = {"omaha-mirror", "pip", "setuptools"}
"""The mirror itself, and what Python lays into a new virtual environment."""


@dataclass(frozen=True)
class Locked:
    """A dependency as it is locked.

    Attributes:
        name: as it is compared: lower case, with hyphens.
        version: the only one that is right.
        hashes: the SHA-256 of each file that it may come in.
        everywhere: False where some platforms or Pythons do without it.
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    everywhere: bool = True

    @property
    def purl(self) -> str:
        """As SBOMs name it."""
        return f"pkg:pypi/{self.name}@{self.version}"


def locked(path: Path = LOCK) -> list[Locked]:
    """What a lock file holds. Raises ValueError where a line is no locked dependency."""
    found = []
    for entry in path.read_text().replace("\\\n", " ").splitlines():
        if not entry.strip() or entry.startswith("#"):
            continue
        pin, hashes = PIN.match(entry), tuple(HASH.findall(entry))
        if pin is None or not hashes:
            raise ValueError(f"{path.name}: {entry[:80]!r} is not locked to a version with digests")
        found.append(Locked(_normal(pin["name"]), pin["version"], hashes, ";" not in entry))
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(name: str) -> str:
    """What a package says of its licence: an SPDX expression where it has one; "unknown" where it is not installed."""
    try:
        told = distribution(name).metadata
    except PackageNotFoundError:
        return "unknown"
    classifiers = [c for c in told.get_all("Classifier") or () if c.startswith("License ::")]
    names = " OR ".join(classifier.rpartition(" :: ")[2] for classifier in classifiers)
    expression, *_ = told.get_all("License-Expression") or ("",)
    text, *_ = told.get_all("License") or ("",)
    return str(expression or names or text.strip().partition("\n")[0] or "unknown")


def sbom(packages: list[Locked]) -> dict[str, Any]:
    """The same packages give the same document."""
    init = (ROOT / "omaha_mirror" / "__init__.py").read_text()
    version = re.findall(r'^__version__ = "(.+)"$', init, re.MULTILINE)[0]
    text = json.dumps([(package.purl, package.hashes) for package in packages])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, text)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "omaha-mirror",
                "name": "omaha-mirror",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": [_component(package) for package in packages],
        "dependencies": [
            {"ref": "omaha-mirror", "dependsOn": [package.purl for package in packages]}
        ],
    }


def _component(package: Locked) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
        "licenses": [{"license": {"name": licence(package.name)}}],
        "externalReferences": [
            {
                "type": "distribution",
                "url": package.purl,
                "hashes": [{"alg": "SHA-256", "content": digest} for digest in package.hashes],
            }
        ],
    }


def audit(packages: Sequence[Locked], folders: Sequence[str]) -> Iterator[str]:
    """What is wrong in an environment: not as locked, not locked at all, or changed since it was installed.

    Args:
        packages: all that may be there, and must be.
        folders: where its packages lie.
    """
    installed = {_normal(found.name): found for found in distributions(path=list(folders))}
    for package in packages:
        found = installed.get(package.name)
        if found is None:
            if package.everywhere:
                yield f"{package.name} is not installed"
        elif found.version != package.version:
            yield f"{package.name} is {found.version}, and {package.version} is locked"
    for name in sorted(installed.keys() - {package.name for package in packages} - UNLOCKED):
        yield f"{name} {installed[name].version} is installed, and not locked"
    recorded: set[Path] = set()
    for name, found in installed.items():
        yield from _altered(name, found, recorded)
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and path.suffix != ".pyc" and path not in recorded:
                yield f"{path.relative_to(folder)} belongs to no package"


def _altered(name: str, found: Distribution, recorded: set[Path]) -> Iterator[str]:
    """Hold the files of a package against its RECORD, and add them to those `recorded`."""
    if found.files is None:
        yield f"{name} has no RECORD of its files"
    for file in found.files or ():
        path = Path(str(file.locate()))
        recorded.add(path)
        if file.hash is not None and not _is_right(path, file.hash):
            yield f"{name}: {file} is not what was installed"


def _is_right(path: Path, told: Any) -> bool:
    try:
        digest = hashlib.new(told.mode, path.read_bytes()).digest()
    except FileNotFoundError:
        return False
    return bool(base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == told.value)


def main(command: str, lock: Path) -> int:
    """Run a command; the exit status."""
    packages = locked(lock)
    if command == "sbom":
        print(json.dumps(sbom(packages), indent=2))  # noqa: T201 (it is the output)
        return 0
    paths = sysconfig.get_paths()
    wrong = list(audit(packages, sorted({paths["purelib"], paths["platlib"]})))
    for package in packages:
        print(f"{package.name}=={package.version}  {licence(package.name)}")  # noqa: T201 (its output)
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)  # noqa: T201 (its output)
    return 1 if wrong else 0


if __name__ == "__main__":
    if sys.argv[1:2] not in (["sbom"], ["audit"]) or len(sys.argv) > 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], Path(sys.argv[2]) if sys.argv[2:] else LOCK))
