"""Releases, their packages, and the results of look-ups."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from omaha_mirror.config.rules import Pin, Rule
from omaha_mirror.omaha import Digest, Manifest, Package, UpdateCheck
from omaha_mirror.reasons import Reason

BOARDS = ("amd64-usr", "arm64-usr")
OEM = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)

OEM_PACKAGES = frozenset(
    f"oem-{oem}.gz"
    for oem in (
        *("akamai", "ami", "azure", "brightbox", "cloudsigma", "cloudstack", "digitalocean"),
        *("exoscale", "gce", "hetzner", "hyperv", "kubevirt", "nutanix", "openstack", "packet"),
        *("proxmoxve", "qemu", "scaleway", "stackit", "vagrant", "virtualbox", "vmware"),
    )
)
"""Packages of Flatcar's own OEM ids: these names are not made up."""


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One package: its size, digests and absolute URL upstream."""

    name: str
    size: int
    sha256: Digest | None
    sha1: Digest | None
    url: str


@dataclass(frozen=True, slots=True)
class Release:
    """A version of an application for a board, with its whole package set, which never changes.

    Raises:
        LookupError, ValueError: there is no package, or one without an address.

    Attributes:
        app_id: lower case, without braces.
        board: one of `BOARDS`.
        version: as upstream writes it.
        check: the updatecheck that offers it, from upstream or made from the release server's answers: one manifest,
            and upstream's urls.
        urls: of the packages, by name.
        learnt: when it became the current release of its version, in seconds since the epoch.
        files: all packages, the payload first.
        id: `{version}-{8 hex}`, the hex from a digest over app, board, version and the whole package set.
    """

    app_id: str
    board: str
    version: str
    check: UpdateCheck
    urls: Mapping[str, str]
    learnt: float = field(default=0.0, compare=False)
    files: tuple[PackageFile, ...] = field(init=False, repr=False, compare=False)
    id: str = field(init=False)
    by_name: Mapping[str, PackageFile] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", tuple(map(self._file, self.manifest.packages)))
        by_name = {file.name: file for file in reversed(self.files)}
        object.__setattr__(self, "by_name", by_name)
        payload, *extras = [
            (f.name, f.size, f.sha256 and f.sha256.hex, f.sha1 and f.sha1.hex) for f in self.files
        ]
        files = [payload, *sorted(extras, key=repr)]
        text = json.dumps([self.app_id, self.board, self.version, files])
        hex_ = hashlib.sha256(text.encode()).hexdigest()[:8]
        object.__setattr__(self, "id", f"{self.version}-{hex_}")

    def with_packages(self, packages: Iterable[Package], urls: Mapping[str, str]) -> Release:
        """The release with more packages after its own; `urls` has theirs, by name."""
        manifest = replace(self.manifest, packages=(*self.manifest.packages, *packages))
        check = replace(self.check, manifests=(manifest,))
        return replace(self, check=check, urls={**self.urls, **urls})

    def file(self, name: str) -> PackageFile | None:
        """A package by name, or None."""
        return self.by_name.get(name)

    @property
    def manifest(self) -> Manifest:
        """Its only manifest."""
        return self.check.manifests[0]

    @property
    def is_delta(self) -> bool:
        """Whether its payload fits machines of one version only."""
        return any(action.is_delta_payload for action in self.manifest.actions)

    @property
    def payload(self) -> PackageFile:
        """The first package, which contains the update."""
        return self.files[0]

    def _file(self, package: Package) -> PackageFile:
        sha256 = package.hash_sha256
        if sha256 is None and package is self.manifest.packages[0]:
            digests = (a.sha256 for a in self.manifest.actions if a.event == "postinstall")
            sha256 = next(digests, None)
        return PackageFile(
            package.name, package.size or 0, sha256, package.hash, self.urls[package.name]
        )


@dataclass(frozen=True, slots=True)
class LookupResult:
    """The result of a look-up of one version, for one app and board.

    Attributes:
        release: the newest settled package set, or None while there is none.
        reason: why there is none.
        detail: the same for people: what happened, where.
        looked_up: names of extra packages that were looked up, whether they exist or not.
        lacking: those of them that are not available although they belong to the release, or are unconfirmed; and why.
        wrong: those of the lacking that are gone upstream, or differ from the manifest.
        complete: whether the manifest is upstream's own, which names all packages.
        doubt: why upstream did not confirm proven packages of the cache, which stay offered; empty if it did.
    """

    release: Release | None = None
    reason: Reason = Reason.WARMING
    detail: str = ""
    looked_up: frozenset[str] = frozenset()
    lacking: Mapping[str, str] = field(default_factory=dict)
    wrong: frozenset[str] = frozenset()
    complete: bool = field(default=False, compare=False)
    doubt: str = ""

    def unasked(self, needed: Iterable[str], own: Iterable[str] = ()) -> frozenset[str]:
        """The needed packages that were not looked up yet.

        Args:
            needed: their names.
            own: those of them that an operator adds to the manifest.
        """
        unasked = {*needed} - self.looked_up
        if unasked and self.complete and self.release is not None:
            unasked &= {*own, *self.release.by_name}
        return frozenset(unasked)


@dataclass(frozen=True, slots=True)
class Step:
    """A version that a track leads its machines to or through.

    Attributes:
        version: as upstream writes it.
        known: the result of its look-up.
        floor: whether each machine below must install it.
        seen: when upstream first offered it on the track, in seconds since the epoch.
    """

    version: str
    known: LookupResult = field(default_factory=LookupResult)
    floor: bool = False
    seen: float = 0.0


def needed_packages(rule: Rule, oem: str) -> frozenset[str]:
    """The extra packages to look up before an offer to a machine with this OEM id.

    A machine downloads its OEM's package after the payload (flatcar-postinst:150); if upstream has none, it needs none.
    """
    own = _package_of(oem)
    return own.union(rule.packages) if isinstance(rule, Pin) else own


@lru_cache(256)
def _package_of(oem: str) -> frozenset[str]:
    return frozenset({f"oem-{oem}.gz"} if OEM.fullmatch(oem) else ())


def not_later(release: Release, now: float) -> Release:
    """The release, with a `learnt` in the future replaced by now."""
    return release if release.learnt <= now else replace(release, learnt=now)


def extensions(releases: Iterable[Release], app_id: str, board: str) -> frozenset[str]:
    """The names of the system extensions of these releases for an application and board."""
    return frozenset(
        file.name
        for release in releases
        if (release.app_id, release.board) == (app_id, board)
        for file in release.files
        if file.name.startswith("flatcar-") and file != release.payload
    )
