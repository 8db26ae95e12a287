"""What upstream told: policy, usable releases, or nothing."""

import base64
import hashlib
from dataclasses import replace

import pytest

from omaha_mirror.catalog import (
    OfferedRelease,
    Unusable,
    UpstreamPolicy,
    UpstreamReading,
    read_upstream,
)
from omaha_mirror.catalog.upstream_answer import MAX_MANIFESTS, MAX_PACKAGES, MAX_SIZE, MAX_TEXT
from omaha_mirror.omaha import (
    Action,
    AppResponse,
    Digest,
    Element,
    Manifest,
    Package,
    Response,
    UpdateCheck,
    Url,
    parse_response,
    serialise_response,
)
from omaha_mirror.upstream.allowed import AllowList
from tests.catalog.scene import APP, BOARD, BODY, PAYLOAD, VERSION, package, sha256

CODEBASE = f"https://update.example/{BOARD}/{VERSION}/"
AZURE = "oem-azure.gz"
ACTION = Action(event="postinstall", sha256=sha256(BODY))
MANIFEST = Manifest(version=VERSION, packages=(package(PAYLOAD), package(AZURE)), actions=(ACTION,))
CHECK = UpdateCheck(status="ok", urls=(Url(codebase=CODEBASE),), manifests=(MANIFEST,))
SHA1 = Digest("sha1", bytes(20))


def read(response: Response) -> UpstreamReading:
    """Read an answer as it arrives."""
    arrived = parse_response(serialise_response(response))
    allowed = AllowList("https://update.example").check
    return read_upstream(arrived, APP, BOARD, allowed=allowed, now=5.0)


def answer(status: str, check: UpdateCheck | None) -> Response:
    return Response(
        apps=(AppResponse(appid=f"{{{APP.upper()}}}", status=status, update_check=check),)
    )


def read_check(check: UpdateCheck) -> UpstreamReading:
    return read(answer("ok", check))


def of(version: str, **attributes: bool) -> Manifest:
    return replace(MANIFEST, version=version, **attributes)  # type: ignore[arg-type]


def with_manifests(*manifests: Manifest) -> UpdateCheck:
    return replace(CHECK, manifests=manifests)


def with_packages(*packages: Package) -> UpdateCheck:
    return with_manifests(replace(MANIFEST, packages=packages))


def with_payload(**attributes: object) -> UpdateCheck:
    return with_packages(replace(package(PAYLOAD), **attributes))  # type: ignore[arg-type]


def with_name(name: str) -> UpdateCheck:
    return with_packages(package(PAYLOAD), package(name))


def with_codebase(codebase: str) -> UpdateCheck:
    return replace(CHECK, urls=(Url(codebase=codebase),))


def with_action(**attributes: object) -> UpdateCheck:
    return with_manifests(replace(MANIFEST, actions=(replace(ACTION, **attributes),)))  # type: ignore[arg-type]


# Policy


@pytest.mark.parametrize(
    ("app", "check", "policy"),
    [
        ("ok", "noupdate", UpstreamPolicy.NO_UPDATE),
        ("", "noupdate", UpstreamPolicy.NO_UPDATE),
        ("error-maxUpdatesPerPeriodLimitReached", "error-internal", UpstreamPolicy.BUSY),
        ("error-maxConcurrentUpdatesLimitReached", "error-internal", UpstreamPolicy.BUSY),
        ("error-updateInProgressOnInstance", "error-internal", UpstreamPolicy.BUSY),
        ("error-couldNotCheckUpdatesStats", "error-internal", UpstreamPolicy.BUSY),
        ("error-instanceRegistrationFailed", "error-internal", UpstreamPolicy.BUSY),
        ("error-updatesDisabled", "error-internal", UpstreamPolicy.WITHDRAWN),
        ("error-noPackageFound", "error-internal", UpstreamPolicy.WITHDRAWN),
        ("error-maxTimedOutUpdatesLimitReached", "error-internal", UpstreamPolicy.WITHDRAWN),
        ("error-failedToRetrieveUpdatePackageInfo", "error-internal", UpstreamPolicy.WITHDRAWN),
        ("error-unknownApplication", "noupdate", UpstreamPolicy.WITHDRAWN),
        ("error-unknownApplication", None, UpstreamPolicy.WITHDRAWN),
        ("error-of-tomorrow", "ok", UpstreamPolicy.WITHDRAWN),
        ("restricted", "ok", UpstreamPolicy.WITHDRAWN),
        ("ok", "error-osnotsupported", UpstreamPolicy.WITHDRAWN),
    ],
)
def test_no_offer_is_policy(app: str, check: str | None, policy: UpstreamPolicy) -> None:
    reading = read(answer(app, replace(CHECK, status=check) if check is not None else None))
    assert (reading.policy, reading.releases) == (policy, ())
    assert app in reading.detail
    assert check is None or check in reading.detail


@pytest.mark.parametrize("check", [None, replace(CHECK, status=""), replace(CHECK, status="maybe")])
def test_an_app_without_a_readable_updatecheck_is_unusable(check: UpdateCheck | None) -> None:
    with pytest.raises(Unusable, match=r"update ?check"):
        read(answer("ok", check))


@pytest.mark.parametrize(
    "apps",
    [
        (),
        (
            AppResponse(
                appid="2d2e5a1c-6a0b-4e0b-8f0e-5d7d0d5d1b11", status="ok", update_check=CHECK
            ),
        ),
    ],
)
def test_an_answer_about_no_or_another_app_is_unusable(apps: tuple[AppResponse, ...]) -> None:
    with pytest.raises(Unusable, match=APP):
        read(Response(apps=apps))


@pytest.mark.parametrize(
    "manifest",
    [
        replace(MANIFEST, extra=tuple((f"more{i}", "<" * 60_000) for i in range(2))),
        replace(MANIFEST, extra_elements=(Element("note", text="x" * MAX_TEXT),)),
        replace(MANIFEST, extra_elements=(Element("x" * MAX_TEXT),)),
        replace(MANIFEST, actions=(ACTION,) * 2000),
    ],
)
def test_more_text_than_any_release_needs_is_unusable(manifest: Manifest) -> None:
    with pytest.raises(Unusable, match=f"{VERSION} takes more than"):
        read_check(with_manifests(of("3000.0.0"), manifest))


def test_what_is_unknown_is_kept_and_only_the_first_url() -> None:
    strange = replace(
        MANIFEST,
        extra=(("more", "x" * 64 * 1024),),
        extra_elements=(Element("note"),) * 1000,
    )
    urls = (Url(codebase=CODEBASE), *(Url(codebase="https://other.example/"),) * 5000)
    [offered] = read_check(replace(with_manifests(strange), urls=urls)).releases
    assert offered.release.manifest == strange
    assert offered.release.check.urls == urls[:1]


def test_another_app_in_the_answer_does_not_matter() -> None:
    broken = AppResponse(appid="another", status="ok", update_check=UpdateCheck(status="ok"))
    reading = read(Response(apps=(broken, *answer("ok", CHECK).apps)))
    assert [offered.release.version for offered in reading.releases] == [VERSION]


# Releases


def test_a_release_is_all_that_was_told_and_where_it_comes_from() -> None:
    later = (("later", "1"),)
    payload = replace(package(PAYLOAD), hash=SHA1, hash_sha256=None, extra=later)
    action = replace(ACTION, display_version="9", extra=later)
    manifest = Manifest(
        version=VERSION, packages=(payload, package(AZURE)), actions=(action,), extra=later
    )
    url = Url(codebase=CODEBASE, extra=later)
    check = UpdateCheck(
        status="ok", poll_interval=3600, urls=(url,), manifests=(manifest,), extra=later
    )
    [offered] = read_check(check).releases
    release = offered.release
    assert release.check == check
    assert (release.app_id, release.board, release.version) == (APP, BOARD, VERSION)
    assert (release.learnt, offered.floor) == (5.0, False)
    assert [file.url for file in release.files] == [CODEBASE + PAYLOAD, CODEBASE + AZURE]
    assert release.payload.sha256 == sha256(BODY)


def test_a_sha256_in_base64_is_read_as_go_omaha_means_it() -> None:
    text = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    extra = (("hash_sha256", text), ("later", "1"))
    reading = read_check(with_payload(hash_sha256=None, hash=SHA1, extra=extra))
    [found] = reading.releases[0].release.manifest.packages
    assert (found.hash_sha256, found.extra) == (sha256(BODY), (("later", "1"),))


@pytest.mark.parametrize(
    ("manifests", "expected"),
    [
        ([of("1", is_floor=True), of("2", is_target=True)], [("1", True), ("2", False)]),
        ([of("2", is_target=True), of("1", is_floor=True)], [("1", True), ("2", False)]),
        ([of("1"), of("2")], [("1", True), ("2", False)]),
        ([of("10"), of("9", is_floor=True)], [("9", True), ("10", False)]),
        ([of("2", is_floor=True, is_target=True), of("1")], [("1", True), ("2", True)]),
        ([of("2", is_floor=True), of("1", is_floor=True)], [("1", True), ("2", True)]),
        ([of("1", is_floor=True)], [("1", True)]),
    ],
)
def test_the_target_comes_last_and_all_before_it_are_floors(
    manifests: list[Manifest], expected: list[tuple[str, bool]]
) -> None:
    def step(offered: OfferedRelease) -> tuple[str, bool]:
        assert offered.release.check.manifests == (offered.release.manifest,)
        return offered.release.version, offered.floor

    assert [
        step(offered) for offered in read_check(with_manifests(*manifests)).releases
    ] == expected


@pytest.mark.parametrize(
    "codebase",
    [
        CODEBASE,
        *("https://update.example/", "https://update.example:443/a/"),
        *("https://update.example", "https://update.example/a"),
    ],
)
def test_any_folder_of_an_allowed_server_is_a_codebase(codebase: str) -> None:
    release = read_check(with_codebase(codebase)).releases[0].release
    assert release.payload.url == f"{codebase.removesuffix('/')}/{PAYLOAD}"
    assert release.check.urls[0].codebase.endswith("/")


def test_as_much_as_is_taken_is_taken() -> None:
    many = [package(f"flatcar-{i}.gz") for i in range(MAX_PACKAGES - 2)]
    largest = replace(package("largest"), size=MAX_SIZE)
    full = replace(MANIFEST, packages=(package(PAYLOAD), largest, *many))
    manifests = [replace(full, version=str(i)) for i in range(MAX_MANIFESTS)]
    assert len(read_check(with_manifests(*manifests)).releases) == MAX_MANIFESTS


# What a client would choke on, or what is not allowed


HEX = sha256(BODY).hex
TERABYTES = 10 * 1024**4

BAD: dict[str, tuple[UpdateCheck, str]] = {
    "another host": (with_codebase("https://evil.example/"), "evil.example"),
    "another port": (with_codebase("https://update.example:8443/"), "8443"),
    "another scheme": (with_codebase("http://update.example/"), "http://update"),
    "a user": (with_codebase("https://me@update.example/"), "user"),
    "a file": (with_codebase("file:///etc/"), "codebase"),
    "a relative codebase": (with_codebase("/packages/"), "codebase"),
    "a query": (with_codebase("https://update.example/?a=/"), "query"),
    "no codebase": (with_codebase(""), "codebase"),
    "no url": (replace(CHECK, urls=()), "url"),
    "a second url that is none": (
        replace(CHECK, urls=(*CHECK.urls, Url(codebase="x"))),
        "codebase",
    ),
    "a name that goes up": (with_name("../oem-azure.gz"), "name"),
    "a name that is up": (with_name(".."), "name"),
    "a name with a folder": (with_name("a/b.gz"), "name"),
    "an absolute name": (with_name("https://evil.example/a.gz"), "name"),
    "an escaped name": (with_name("%2e%2e"), "name"),
    "a name with an escape": (with_name("a%2fb"), "name"),
    "a hidden name": (with_name(".htaccess"), "name"),
    "a name with a backslash": (with_name("a\\b"), "name"),
    "a name with a line end": (with_name("a.gz\n"), "name"),
    "a foreign name": (with_name("ä.gz"), "name"),
    "a long name": (with_name("a" * 201), "name"),
    "no name": (with_name(""), "name"),
    "two of one name": (with_packages(package(PAYLOAD), package(PAYLOAD)), "two packages"),
    "an empty payload": (with_payload(size=0), "size"),
    "an empty extra": (
        with_packages(package(PAYLOAD), replace(package(AZURE), size=0)),
        "0 bytes",
    ),
    "a huge payload": (with_payload(size=TERABYTES), str(TERABYTES)),
    "one byte too many": (with_payload(size=MAX_SIZE + 1), str(MAX_SIZE + 1)),
    "a negative size": (with_payload(size=-1), "size"),
    "no size": (with_payload(size=None), "size"),
    "a size that is none": (with_payload(size=None, extra=(("size", "1e3"),)), "size"),
    "a SHA-1 in hex": (
        with_payload(hash=None, extra=(("hash", SHA1.hex),)),
        "no base64 SHA-1",
    ),
    "a SHA-256 that is none": (
        with_payload(hash_sha256=None, extra=(("hash_sha256", HEX[1:]),)),
        "no hex SHA-256",
    ),
    "an action's SHA-256 in hex": (
        with_action(sha256=None, extra=(("sha256", HEX),)),
        "base64 SHA-256",
    ),
    "two digests": (with_action(sha256=sha256(b"other")), "another"),
    "no digest": (with_action(sha256=None), "no sha256"),
    "an extra without a digest": (
        with_packages(package(PAYLOAD), replace(package(AZURE), hash_sha256=None)),
        "neither hash",
    ),
    "a package without required": (with_payload(required=None), "required"),
    "no packages": (with_packages(), "package"),
    "no postinstall": (with_action(event="install"), "postinstall"),
    "an action without a digest": (
        with_manifests(replace(MANIFEST, actions=(ACTION, Action(event="update")))),
        "every action",
    ),
    "a delta": (with_action(is_delta_payload=True), "delta"),
    "no manifest": (with_manifests(), "0 manifests"),
    "too many packages": (
        with_packages(package(PAYLOAD), *map(package, map(str, range(MAX_PACKAGES)))),
        "129 packages",
    ),
    "too many manifests": (
        with_manifests(*(of(str(i)) for i in range(MAX_MANIFESTS + 1))),
        "33 manifests",
    ),
    "no version": (with_manifests(of("")), "version"),
    "an unreadable version": (with_manifests(of("latest")), "latest"),
    "a version with a folder": (with_manifests(of("1/../2")), "version"),
    "two of one version": (with_manifests(of("1.0"), of("1")), "two manifests"),
    "a step above the target": (
        with_manifests(of("2", is_floor=True), of("1", is_target=True)),
        "above the target",
    ),
    "one bad manifest of two": (
        with_manifests(replace(MANIFEST, version="1", packages=()), MANIFEST),
        "package",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_answer_is_refused_as_a_whole_and_says_why(case: str) -> None:
    check, why = BAD[case]
    with pytest.raises(Unusable, match=why):
        read_check(check)


def test_an_offer_without_a_status_on_the_app_is_refused() -> None:
    with pytest.raises(Unusable, match="status"):
        read(answer("", CHECK))


@pytest.mark.parametrize("check", [CHECK, with_payload(), with_name(AZURE), with_action()])
def test_what_the_bad_answers_are_made_of_is_good(check: UpdateCheck) -> None:
    assert read_check(check).policy is UpstreamPolicy.OFFERS
