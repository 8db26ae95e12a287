"""Reads a response as the real clients do, and refuses what they would refuse."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urljoin
from uuid import UUID

from omaha_mirror.omaha.codebase import codebase_problem
from omaha_mirror.omaha.codes import ErrorCode, UpdateStatus
from omaha_mirror.omaha.errors import BadResponse, BadValue
from omaha_mirror.omaha.protocol import Action, AppResponse, Package, Response
from omaha_mirror.omaha.values import Digest

_BOOLEANS = frozenset(["true", "false", "1", "0", "yes", "no", "on", "off", "t", "f", "y", "n"])
_SPECIAL = frozenset("/\\?#:")
_EVENTS = frozenset(("preinstall", "install", "postinstall", "update"))


@dataclass(frozen=True, slots=True)
class NoUpdate:
    """A `noupdate` answer.

    Attributes:
        poll_interval: Seconds to the next check, if the server asks for it.
    """

    poll_interval: int | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """An update that update_engine would download.

    Attributes:
        version: Of the release; update_engine only displays it.
        urls: Of the payload, one for each codebase; one of them is used in each attempt.
        size: Bytes of the payload.
        sha256: Of the payload.
        packages: All packages of the release, the payload first.
        codebases: As sent.
        action: The postinstall action.
        poll_interval: Seconds to the next check, if the server asks for it.
    """

    version: str
    urls: tuple[str, ...]
    size: int
    sha256: Digest
    packages: tuple[Package, ...]
    codebases: tuple[str, ...]
    action: Action
    poll_interval: int | None = None

    def url_of(self, package: Package) -> str:
        """Where ue-rs fetches a package: its name resolved against the first codebase.

        Raises:
            BadValue: If the codebase is no URL.
        """
        try:
            return urljoin(self.codebases[0], package.name)
        except ValueError:
            raise BadValue(f"the codebase {self.codebases[0][:200]!r} is not a URL") from None


def read_answer(response: Response) -> Offer | NoUpdate:
    """Read the answer to an update check by update_engine's rules.

    Those are omaha_request_action.cc:344-620: the apps' own status is not looked at, and of all
    update checks, manifests, packages and actions of the document the first ones count, but the
    urls of all apps.

    Raises:
        BadResponse: If update_engine would fail; with the errorcode that it would report.
    """
    checks = [app.update_check for app in response.apps if app.update_check is not None]
    if not checks:
        raise _invalid("the answer has no updatecheck")
    if checks[0].status == UpdateStatus.NO_UPDATE:
        return NoUpdate(checks[0].poll_interval)
    if checks[0].status != UpdateStatus.OK:
        raise _invalid(f"the update check was answered {checks[0].status[:80]!r}")
    manifests = [manifest for check in checks for manifest in check.manifests]
    if not manifests:
        raise _invalid("the answer has no manifest")
    codebases = tuple(url.codebase for check in checks for url in check.urls)
    if not all(codebases) or not codebases:
        raise _invalid("the answer has no url, or one without a codebase")
    payload = next((package for manifest in manifests for package in manifest.packages), None)
    if payload is None or not payload.name:
        raise _invalid("the answer has no package, or one without a name")
    if payload.size is None or payload.size <= 0:
        raise _invalid(f"the size of {payload.name[:80]!r} is missing or not above 0")
    action = _postinstall(action for manifest in manifests for action in manifest.actions)
    return Offer(
        version=manifests[0].version,
        urls=tuple(f"{codebase.removesuffix('/')}/{payload.name}" for codebase in codebases),
        size=payload.size,
        sha256=_payload_digest(action),
        packages=manifests[0].packages,
        codebases=codebases,
        action=action,
        poll_interval=checks[0].poll_interval,
    )


def check_for_sysexts(response: Response) -> None:
    """Refuse an offer from which ue-rs could not fetch `oem-*.gz` and `flatcar-*.gz`.

    It reads the answer that update_engine stored, and the whole of it must be right, or the
    update fails in its last step (ue-rs omaha/src/response.rs, src/download/mod.rs:156).

    Raises:
        BadResponse: With the first fault for ue-rs.
    """
    for app in response.apps:
        _check_app(app)


def _invalid(message: str, errorcode: ErrorCode = ErrorCode.OMAHA_RESPONSE_INVALID) -> BadResponse:
    return BadResponse(f"{message}: update_engine would report error {errorcode:d}", errorcode)


def _postinstall(actions: Iterable[Action]) -> Action:
    for action in actions:
        if action.event == "postinstall":
            return action
    raise _invalid("the answer has no postinstall action")


def _payload_digest(action: Action) -> Digest:
    if action.sha256 is not None:
        return action.sha256
    sent = dict(action.extra).get("sha256")
    if not sent:
        raise _invalid("the postinstall action has no sha256")
    raise _invalid(
        f"the sha256 of the postinstall action is no base64 SHA-256: {sent[:80]!r}",
        ErrorCode.PAYLOAD_HASH_MISMATCH_ERROR,
    )


def _check_app(app: AppResponse) -> None:
    try:
        UUID(app.app_id)
    except ValueError:
        raise BadResponse(f"ue-rs needs a UUID as appid, not {app.appid[:80]!r}") from None
    check = app.update_check
    if not app.status or check is None or not check.status:
        raise BadResponse("ue-rs needs a status on every app, and an updatecheck with a status")
    if not check.urls or check.manifest is None or not check.manifest.version:
        raise BadResponse("ue-rs needs urls and a manifest with a version in every app")
    for url in check.urls:
        if problem := codebase_problem(url.codebase):
            raise BadResponse(f"the codebase {url.codebase[:200]!r} {problem}")
    for manifest in check.manifests:
        if not manifest.packages or not manifest.actions:
            raise BadResponse("ue-rs needs packages and actions in every manifest")
        for package in manifest.packages:
            _check_package(package)
        for action in manifest.actions:
            _check_action(action)


def _check_package(package: Package) -> None:
    name = repr(package.name[:80])
    unread = dict(package.extra)
    if not package.name or package.size is None or package.size < 0:
        raise BadResponse(f"ue-rs needs a name and a size on every package, also on {name}")
    if package.name in (".", "..") or not _SPECIAL.isdisjoint(package.name):
        raise BadResponse(f"the package name {name} is not a plain file name")
    if not _is_boolean(package.required, unread, "required"):
        raise BadResponse(f"ue-rs needs required to be true or false on {name}")
    for attribute, form in (("hash", "base64 SHA-1"), ("hash_sha256", "hex SHA-256")):
        if attribute in unread:
            raise BadResponse(f"the {attribute} of {name} is no {form}: {unread[attribute][:80]!r}")
    if package.hash is None and package.hash_sha256 is None:
        raise BadResponse(f"the package {name} has neither hash nor hash_sha256")


def _check_action(action: Action) -> None:
    if action.event not in _EVENTS:
        raise BadResponse(f"ue-rs does not know the action event {action.event[:80]!r}")
    if action.sha256 is None:
        raise BadResponse("ue-rs needs a base64 SHA-256 on every action")
    unread = dict(action.extra)
    if "DisablePayloadBackoff" in unread and not _is_boolean(None, unread, "DisablePayloadBackoff"):
        raise BadResponse("ue-rs needs DisablePayloadBackoff to be true or false")


def _is_boolean(flag: bool | None, unread: dict[str, str], attribute: str) -> bool:
    """Whether ue-rs reads it as one; it knows more words than `true` and `false`."""
    return flag is not None or unread.get(attribute) in _BOOLEANS
