"""From decisions to an answer."""

from dataclasses import replace

from omaha_mirror.catalog import Reason
from omaha_mirror.omaha import (
    AppRequest,
    Element,
    EventRequest,
    NoUpdate,
    Offer,
    PingRequest,
    Response,
    UpdateCheck,
    UpdateCheckRequest,
    check_for_sysexts,
    localise,
    parse_response,
    read_answer,
    serialise_response,
)
from omaha_mirror.policy.decide import Decision
from omaha_mirror.policy.response import answer
from tests.catalog.scene import APP, BODY, VERSION, release, sha256

MACHINE = AppRequest(appid=f"{{{APP}}}", update_check=UpdateCheckRequest())


def serialised(*apps: tuple[AppRequest, Decision | None]) -> Response:
    """The answer as it arrives."""
    return parse_response(serialise_response(answer(apps)))


def test_an_offer_passes_both_kinds_of_client() -> None:
    response = serialised((MACHINE, Decision(Reason.OFFERED, release("oem-azure.gz"))))
    offer = read_answer(response)
    assert isinstance(offer, Offer)
    assert (offer.version, offer.sha256, offer.size) == (VERSION, sha256(BODY), len(BODY))
    check_for_sysexts(localise(response, lambda *_: "http://mirror.example/packages/x/"))


def test_an_offer_is_what_upstream_told_whatever_that_is() -> None:
    base = release("oem-azure.gz")
    later = (("later", "1"),)
    urls = tuple(replace(url, extra=later) for url in base.check.urls)
    manifest = replace(base.manifest, extra=later, extra_elements=(Element("later"),))
    check = UpdateCheck(
        status="ok",
        poll_interval=3600,
        urls=urls,
        manifests=(manifest,),
        extra=later,
        extra_elements=(Element("later"),),
    )
    response = serialised((MACHINE, Decision(Reason.OFFERED, replace(base, check=check))))
    assert response.apps[0].update_check == check


def test_a_poll_interval_goes_with_either_answer() -> None:
    held = serialised((MACHINE, Decision(Reason.WARMING, poll_interval=2700)))
    assert read_answer(held) == NoUpdate(2700)
    offer = read_answer(
        serialised((MACHINE, Decision(Reason.OFFERED, release(), poll_interval=2700)))
    )
    assert isinstance(offer, Offer)
    assert offer.poll_interval == 2700


def test_a_decision_against_an_update_is_no_error() -> None:
    for reason in set(Reason) - {Reason.OFFERED, Reason.UNKNOWN_APP}:
        response = serialised((MACHINE, Decision(reason, detail="why")))
        assert response.apps[0].status == "ok"
        assert read_answer(response) == NoUpdate()


def test_an_unknown_app_is_told_so_and_has_no_update() -> None:
    response = serialised((MACHINE, Decision(Reason.UNKNOWN_APP)))
    assert response.apps[0].status == "error-unknownApplication"
    assert read_answer(response) == NoUpdate()


def test_each_app_is_answered_in_order_by_its_id_without_braces() -> None:
    unknown = AppRequest(appid="{another}", update_check=UpdateCheckRequest())
    quiet = AppRequest(appid=APP, ping=PingRequest(), events=(EventRequest(), EventRequest()))
    apps = serialised(
        (unknown, Decision(Reason.UNKNOWN_APP)),
        (MACHINE, Decision(Reason.OFFERED, release())),
        (quiet, None),
    ).apps
    assert [app.appid for app in apps] == ["another", APP, APP]
    checks = [app.update_check.status if app.update_check else None for app in apps]
    assert checks == ["noupdate", "ok", None]
    assert [app.ping is not None for app in apps] == [False, False, True]
    assert [[event.status for event in app.events] for app in apps] == [[], [], ["ok", "ok"]]
