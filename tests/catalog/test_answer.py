"""From decisions to an answer."""

from omaha_mirror.catalog import Decision, Reason, answer
from omaha_mirror.omaha import (
    AppRequest,
    EventRequest,
    NoUpdate,
    Offer,
    PingRequest,
    Response,
    UpdateCheckRequest,
    check_for_sysexts,
    localise,
    parse_response,
    read_answer,
    serialise_response,
)
from tests.catalog.scene import APP, BODY, VERSION, release, sha256

MACHINE = AppRequest(appid=f"{{{APP}}}", update_check=UpdateCheckRequest())


def told(*apps: tuple[AppRequest, Decision | None]) -> Response:
    """The answer as it arrives."""
    return parse_response(serialise_response(answer(apps)))


def test_an_offer_passes_both_kinds_of_client() -> None:
    response = told((MACHINE, Decision(Reason.OFFERED, release("oem-azure.gz"))))
    offer = read_answer(response)
    assert isinstance(offer, Offer)
    assert (offer.version, offer.sha256, offer.size) == (VERSION, sha256(BODY), len(BODY))
    check_for_sysexts(localise(response, lambda *_: "http://mirror.example/packages/x/"))


def test_the_codebase_is_the_folder_that_the_payload_comes_from() -> None:
    offer = read_answer(told((MACHINE, Decision(Reason.OFFERED, release()))))
    assert isinstance(offer, Offer)
    assert offer.codebases == (f"http://release.example/{VERSION}/",)


def test_a_decision_against_an_update_is_no_error() -> None:
    for reason in set(Reason) - {Reason.OFFERED, Reason.UNKNOWN_APP}:
        response = told((MACHINE, Decision(reason, detail="why")))
        assert response.apps[0].status == "ok"
        assert read_answer(response) == NoUpdate()


def test_an_unknown_app_is_told_so_and_has_no_update() -> None:
    response = told((MACHINE, Decision(Reason.UNKNOWN_APP)))
    assert response.apps[0].status == "error-unknownApplication"
    assert read_answer(response) == NoUpdate()


def test_each_app_is_answered_in_order_by_its_id_without_braces() -> None:
    unknown = AppRequest(appid="{another}", update_check=UpdateCheckRequest())
    quiet = AppRequest(appid=APP, ping=PingRequest(), events=(EventRequest(), EventRequest()))
    apps = told(
        (unknown, Decision(Reason.UNKNOWN_APP)),
        (MACHINE, Decision(Reason.OFFERED, release())),
        (quiet, None),
    ).apps
    assert [app.appid for app in apps] == ["another", APP, APP]
    checks = [app.update_check.status if app.update_check else None for app in apps]
    assert checks == ["noupdate", "ok", None]
    assert [app.ping is not None for app in apps] == [False, False, True]
    assert [[event.status for event in app.events] for app in apps] == [[], [], ["ok", "ok"]]
