"""What the mirror is made of: an SBOM of the locked dependencies, and an audit of those that are installed.

    python packaging/supply.py sbom  > sbom.json     CycloneDX 1.6, as JSON
    python packaging/supply.py audit                 without a line; exits 1 where something is wrong

Run it with the Python whose packages are meant. Only the standard library is needed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements-run.txt"
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Locked:
    """A dependency as it is locked: its name, its version, and the SHA-256 of each file that it may come in."""

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def purl(self) -> str:
        """As SBOMs name it."""
        return f"pkg:pypi/{self.name.lower().replace('_', '-')}@{self.version}"


def locked(path: Path = LOCK) -> list[Locked]:
    """What a lock file holds. Raises ValueError where a line is no locked dependency."""
    found = []
    for entry in path.read_text().replace("\\\n", " ").splitlines():
        if not entry.strip() or entry.startswith("#"):
            continue
        pin, hashes = PIN.match(entry), tuple(HASH.findall(entry))
        if pin is None or not hashes:
            raise ValueError(f"{path.name}: {entry[:80]!r} is not locked to a version with digests")
        found.append(Locked(pin["name"], pin["version"], hashes))
    return found


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


def audit(packages: list[Locked]) -> Iterator[str]:
    """What is wrong with what is installed: not as locked, or changed since it was."""
    for package in packages:
        try:
            installed = distribution(package.name)
        except PackageNotFoundError:
            yield f"{package.name} is not installed"
            continue
        if installed.version != package.version:
            yield f"{package.name} is {installed.version}, and {package.version} is locked"
        for file in installed.files or ():
            if file.hash is not None and not _is_right(Path(str(file.locate())), file.hash):
                yield f"{package.name}: {file} is not what was installed"


def _is_right(path: Path, recorded: Any) -> bool:
    try:
        digest = hashlib.new(recorded.mode, path.read_bytes()).digest()
    except FileNotFoundError:
        return path.suffix == ".pyc"
    return bool(base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == recorded.value)


def main(command: str) -> int:
    """Run a command; the exit status."""
    packages = locked()
    if command == "sbom":
        print(json.dumps(sbom(packages), indent=2))  # noqa: T201 (it is the output)
        return 0
    wrong = list(audit(packages))
    for package in packages:
        print(f"{package.name}=={package.version}  {licence(package.name)}")  # noqa: T201
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) if sys.argv[1:] in (["sbom"], ["audit"]) else __doc__)
