"""A scripted Nebraska on a scripted upstream: the policy of a real one, with books that tests can read.

    async with Upstream() as upstream:
        nebraska = Nebraska(upstream)              # posts to nebraska.url are answered from now on
        nebraska.publish("3510.2.0", {PAYLOAD: old})
        nebraska.publish("3815.2.1", {PAYLOAD: payload, "oem-azure.gz": azure, "flatcar-podman.gz": podman})
        stable = nebraska.group("stable", "3815.2.1", floors=["3510.2.0"])
        ...
        assert nebraska.open_grants() == []
        stable.updates_enabled = False             # groups, packages, instances are plain data: change them
        nebraska.now += timedelta(hours=9)         # limits and office hours go by this clock alone

With a `ThreadedUpstream`, make it by `upstream.do(Nebraska)`, and change it by `upstream.do` as well. Faults are the
upstream's (`upstream.fault(PATH, Status(503))`, `Redirect(..., code=307)`), and so is whatever is no answer
(`upstream.answer(PATH, lambda request: b"<html>")`; `nebraska.answer` brings it back).

What it does as the real one: a machine is granted one step at a time, the lowest floor above it or the channel's
version; it is offered the next step again, without a look at the policy, while it has not reached what was granted,
and told `noupdate` once when it has. Refusals have the app's status and `error-internal` at the updatecheck.
A syncer gets all steps in one answer, or nothing if it does not say `multi_manifest_ok` and there is a floor.
Instances whose id is `{8-4-4-4-12}` count in no limit. Not there: blacklists, and 400 for a body above 64 KiB.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from omaha_mirror.omaha import (
    FLATCAR_APP_ID,
    Action,
    AppRequest,
    AppResponse,
    AppStatus,
    DayStart,
    Digest,
    EventRequest,
    EventResponse,
    Manifest,
    OmahaError,
    Package,
    PingResponse,
    Request,
    Response,
    UpdateCheck,
    UpdateStatus,
    Url,
    Version,
    parse_request,
    serialise_response,
)
from tests.support.upstream import Upstream
from tests.support.wire import Request as HttpRequest

PATH = "/v1/update/"
SYNCER = "CoreOSUpdateEngine-0.1.0.0"
NEVER_UPDATED = "0.0.0.0"
UNLIMITED = 900_000
NEVER = datetime.min.replace(tzinfo=UTC)
A_DAY = timedelta(days=1)

_SEMVER = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_FAKE = re.compile(r"\{.{8}-.{4}-.{4}-.{4}-.{12}\}")
_BOARDS = {"x64": "amd64-usr", "arm": "arm64-usr"}


class State(StrEnum):
    """Of an instance."""

    UNDEFINED = "undefined"
    GRANTED = "update granted"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    INSTALLED = "installed"
    COMPLETE = "complete"
    ERROR = "error"
    ON_HOLD = "on hold"


_BUSY = (State.DOWNLOADING, State.DOWNLOADED, State.INSTALLED)
# The event types and results that change a state; all others are acknowledged and forgotten.
_EVENTS: dict[tuple[int | None, int | None], State] = {
    (3, 0): State.ERROR,
    (3, 2): State.COMPLETE,
    (13, 1): State.DOWNLOADING,
    (14, 1): State.DOWNLOADED,
    (800, 1): State.INSTALLED,
}


@dataclass(slots=True)
class Instance:
    """A machine as Nebraska sees it.

    Attributes:
        granted: The version of its last grant, open or not.
        counts: Whether limits and statistics see it.
    """

    machineid: str
    version: str
    group: "Group"
    seen: datetime
    state: State = State.UNDEFINED
    granted: str = ""
    granted_at: datetime = NEVER

    @property
    def in_progress(self) -> bool:
        return self.state in (State.GRANTED, *_BUSY)

    @property
    def counts(self) -> bool:
        return not _FAKE.fullmatch(self.machineid)

    def become(self, state: State) -> None:
        self.state = state
        if state == State.COMPLETE and self.granted:
            self.version = self.granted


@dataclass(slots=True, eq=False)
class Group:
    """A track for an application and a board, and its policy.

    Attributes:
        version: Of the channel; None: it has no package.
        floors: Versions that no machine may pass by.
        max_updates: Per `period`, and at one time.
        timeout: How long a grant may be open before it counts as timed out.
        safe_mode: One machine first; and grants that time out disable the updates.
        office_hours: Updates on work days from 9 to 17 only (UTC).
        trouble: An app status with which all checks are refused.
    """

    app_id: str
    track: str
    board: str
    version: str | None
    floors: set[str]
    updates_enabled: bool = True
    max_updates: int = UNLIMITED
    period: timedelta = timedelta(minutes=15)
    timeout: timedelta = timedelta(hours=1)
    safe_mode: bool = False
    office_hours: bool = False
    trouble: str = ""


@dataclass(slots=True)
class Published:
    """A release: what is told of it, and where its files are."""

    codebase: str
    manifest: Manifest


class Refused(Exception):
    """The updatecheck is answered `error-internal`, and the app has this status."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


@dataclass(slots=True)
class Nebraska:
    """See the module.

    Attributes:
        requests: All that were read, in order.
        groups: By app id, track and board.
        releases: By board and version.
        instances: By app id and machine id.
        now: Its clock; it stands still, on a Monday at 10.
    """

    upstream: Upstream
    requests: list[Request] = field(default_factory=list)
    groups: dict[tuple[str, str, str], Group] = field(default_factory=dict)
    releases: dict[tuple[str, str], Published] = field(default_factory=dict)
    instances: dict[tuple[str, str], Instance] = field(default_factory=dict)
    now: datetime = datetime(2025, 1, 6, 10, tzinfo=UTC)

    def __post_init__(self) -> None:
        self.answer()

    @property
    def url(self) -> str:
        return self.upstream.url(PATH)

    def answer(self) -> None:
        """Answer posts (again)."""
        self.upstream.answer(PATH, self._answer)

    def publish(
        self, version: str, files: Mapping[str, bytes], *, board: str = "amd64-usr"
    ) -> Published:
        """Put a release's files on the upstream, in the release server's layout; the first is the payload."""
        folder = f"/{board}/{version}/"
        for name, body in files.items():
            self.upstream.put(folder + name, body)
        release = Published(self.upstream.url(folder), _manifest(version, files))
        self.releases[board, version] = release
        return release

    def group(
        self,
        track: str,
        version: str | None,
        *,
        floors: Iterable[str] = (),
        board: str = "amd64-usr",
        app_id: str = FLATCAR_APP_ID,
    ) -> Group:
        """A new group, in place of the one there was."""
        group = Group(app_id, track, board, version, set(floors))
        self.groups[app_id, track, board] = group
        return group

    def open_grants(self) -> list[Instance]:
        """The instances that were granted an update and have not reached it, whether they count or not."""
        return [instance for instance in self.instances.values() if instance.in_progress]

    # Answering

    def _answer(self, request: HttpRequest) -> bytes:
        try:
            asked = parse_request(request.body)
        except OmahaError:
            return b""
        self.requests.append(asked)
        apps = tuple(self._apps(asked))
        return serialise_response(
            Response(server="nebraska", daystart=DayStart(elapsed_seconds=0), apps=apps)
        )

    def _apps(self, request: Request) -> Iterator[AppResponse]:
        syncer = (request.installsource, request.version) == ("scheduler", SYNCER)
        for app in request.apps:
            arch = request.os.arch if request.os else ""
            board = app.board or _BOARDS.get(arch, "amd64-usr")
            group = self.groups.get((app.app_id, app.track, board))
            if group is None:
                # Nothing is said of this app's events, nor of the apps that follow.
                status = AppStatus.FAILED_TO_RETRIEVE_UPDATE_PACKAGE_INFO
                yield AppResponse(appid=app.appid, status=status, update_check=_ERROR)
                return
            for event in app.events:
                self._happened(app, event)
            if app.ping is not None:
                with suppress(Refused):
                    self._register(app, group)
            yield replace(
                self._checked(app, group, syncer=syncer),
                ping=PingResponse(status="ok") if app.ping else None,
                events=tuple(EventResponse(status="ok") for _ in app.events),
            )

    def _checked(self, app: AppRequest, group: Group, *, syncer: bool) -> AppResponse:
        answer = AppResponse(appid=app.appid, status=AppStatus.OK)
        if app.update_check is None:
            return answer
        try:
            return replace(answer, update_check=self._check(app, group, syncer=syncer))
        except Refused as refused:
            return replace(answer, status=refused.status, update_check=_ERROR)

    def _happened(self, app: AppRequest, event: EventRequest) -> None:
        instance = self.instances.get((app.app_id, app.machineid))
        if instance is None or not instance.in_progress:
            return
        told, flatcar = (event.eventtype, event.eventresult), app.app_id == FLATCAR_APP_ID
        if flatcar and told == (3, 2) and event.previousversion in (None, "", NEVER_UPDATED):
            instance.become(State.UNDEFINED)
        elif told == (3, 1) and not flatcar:
            instance.become(State.COMPLETE)
        elif state := _EVENTS.get(told):
            instance.become(state)

    def _register(self, app: AppRequest, group: Group) -> Instance:
        if not _SEMVER.fullmatch(app.version):
            raise Refused(AppStatus.INSTANCE_REGISTRATION_FAILED)
        new = Instance(app.machineid, app.version, group, self.now)
        instance = self.instances.setdefault((app.app_id, app.machineid), new)
        instance.version, instance.group, instance.seen = app.version, group, self.now
        return instance

    def _check(self, app: AppRequest, group: Group, *, syncer: bool) -> UpdateCheck:
        instance = self._register(app, group)
        if group.trouble:
            raise Refused(group.trouble)
        if instance.state in _BUSY:
            raise Refused(AppStatus.UPDATE_IN_PROGRESS_ON_INSTANCE)
        if group.version is None:
            raise Refused(AppStatus.NO_PACKAGE_FOUND)
        steps = _path(app.version, group.floors, group.version)
        if instance.state == State.GRANTED and not syncer:
            if Version.parse(app.version) < Version.parse(instance.granted):
                return self._offer(group, steps[:1] or [group.version])
            instance.become(State.COMPLETE)
            return _NO_UPDATE
        if not steps or (syncer and group.floors & {*steps} and not app.multi_manifest_ok):
            return _NO_UPDATE
        if refusal := self._policy(group):
            if refusal != AppStatus.UPDATES_DISABLED:
                instance.become(State.ON_HOLD)
            raise Refused(refusal)
        offered = steps if syncer else steps[:1]
        instance.become(State.GRANTED)
        instance.granted, instance.granted_at = offered[-1], self.now
        return self._offer(group, offered, flagged=syncer)

    def _policy(self, group: Group) -> AppStatus | None:
        at_work = self.now.weekday() < 5 and 9 <= self.now.hour < 17
        if not group.updates_enabled or (group.office_hours and not at_work):
            return AppStatus.UPDATES_DISABLED
        counted = [
            instance
            for instance in self.instances.values()
            if instance.group is group and instance.counts and self.now - instance.seen < A_DAY
        ]
        limit = group.max_updates
        if group.safe_mode and not any(
            instance.granted == group.version and not instance.in_progress for instance in counted
        ):
            limit = 1
        ages = [self.now - instance.granted_at for instance in counted]
        if sum(age < group.period for age in ages) >= limit:
            return AppStatus.MAX_UPDATES_PER_PERIOD_LIMIT_REACHED
        open_ages = [self.now - instance.granted_at for instance in counted if instance.in_progress]
        if sum(age <= group.timeout for age in open_ages) >= limit:
            return AppStatus.MAX_CONCURRENT_UPDATES_LIMIT_REACHED
        if group.safe_mode and sum(age > group.timeout for age in open_ages) >= limit:
            group.updates_enabled = False
            return AppStatus.MAX_TIMED_OUT_UPDATES_LIMIT_REACHED
        return None

    def _offer(self, group: Group, steps: list[str], *, flagged: bool = False) -> UpdateCheck:
        releases = [self.releases[group.board, step] for step in steps]
        manifests = [release.manifest for release in releases]
        if flagged:
            manifests = [_flagged(manifest, group) for manifest in manifests]
        return UpdateCheck(
            status=UpdateStatus.OK,
            urls=(Url(codebase=releases[-1].codebase),),
            manifests=tuple(manifests),
        )


_NO_UPDATE = UpdateCheck(status=UpdateStatus.NO_UPDATE)
_ERROR = UpdateCheck(status=UpdateStatus.INTERNAL)


def _path(version: str, floors: set[str], target: str) -> list[str]:
    """The steps from a version to the target."""
    low, high = Version.parse(version), Version.parse(target)
    steps = {step for step in (*floors, target) if low < Version.parse(step) <= high}
    return sorted(steps, key=Version.parse)


def _flagged(manifest: Manifest, group: Group) -> Manifest:
    floor = manifest.version in group.floors
    return replace(
        manifest,
        is_floor=floor or None,
        floor_reason="Required intermediate version" if floor else "",
        is_target=manifest.version == group.version or None,
    )


def _manifest(version: str, files: Mapping[str, bytes]) -> Manifest:
    """SHA-1 for all, SHA-256 in hex for the extra packages alone; that of the payload stands in the action."""
    payload, *extras = (
        Package(
            name=name,
            hash=Digest("sha1", hashlib.sha1(body).digest()),
            hash_sha256=Digest("sha256", hashlib.sha256(body).digest()),
            size=len(body),
            required=False,
        )
        for name, body in files.items()
    )
    action = Action(
        event="postinstall",
        sha256=payload.hash_sha256,
        needsadmin=False,
        is_delta_payload=False,
        disable_payload_backoff=True,
    )
    payload = replace(payload, hash_sha256=None, required=True)
    return Manifest(version=version, packages=(payload, *extras), actions=(action,))
