"""Who asks, through proxies and past them."""

import re
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_network

import pytest
from structlog.testing import capture_logs

from omaha_mirror.config import Address
from omaha_mirror.web.public_settings import PublicSettings
from omaha_mirror.web.request import client_address
from omaha_mirror.web.server import Listener
from tests.support.mirror import Mirror, omaha, public_app
from tests.support.talk import Answer, dial, request

PROXY, FAR_PROXY, MACHINE = "127.0.0.2", "127.0.0.3", "192.0.2.7"
TRUSTED = (ip_network("127.0.0.2/31"), ip_network("2001:db8::/32"))


@pytest.fixture
async def address(mirror: Mirror) -> AsyncIterator[Address]:
    listener = Listener(public_app(mirror.service, PublicSettings(TRUSTED)))
    [address] = await listener.start([Address("127.0.0.1", 0)])
    yield address
    await listener.stop()


async def check(address: Address, source: str, headers: dict[str, str]) -> tuple[Answer, str]:
    """The answer to a check, and the remote address that the log has for it."""
    with capture_logs() as logs:
        async with dial(address, source=source) as talk:
            await talk.send(request("POST", "/v1/update", headers, omaha("request_check_first")))
            answer = await talk.answer()
    [line] = [entry for entry in logs if entry["event"] in ("check", "refused")]
    return answer, line["remote"]


def base(answer: Answer) -> str:
    found = re.search(rb'codebase="(.*?)/packages/', answer.body)
    assert found is not None
    return found[1].decode()


PLAIN = "http://mirror.test:8000"


@pytest.mark.parametrize(
    ("source", "headers", "remote", "told"),
    [
        (PROXY, {}, PROXY, PLAIN),
        (PROXY, {"X-Forwarded-For": MACHINE}, MACHINE, PLAIN),
        (PROXY, {"X-Forwarded-For": f"10.9.8.7, {MACHINE}"}, MACHINE, PLAIN),
        (PROXY, {"X-Forwarded-For": f"{MACHINE}, {FAR_PROXY}"}, MACHINE, PLAIN),
        (PROXY, {"X-Forwarded-For": f"{PROXY}, {MACHINE}, {FAR_PROXY}"}, MACHINE, PLAIN),
        (PROXY, {"X-Forwarded-For": "evil\u2028[31m"}, PROXY, PLAIN),
        (PROXY, {"X-Forwarded-Proto": "https"}, PROXY, "https://mirror.test:8000"),
        (PROXY, {"X-Forwarded-Proto": "http, HTTPS"}, PROXY, "https://mirror.test:8000"),
        (PROXY, {"X-Forwarded-Proto": "https, http"}, PROXY, PLAIN),
        (PROXY, {"X-Forwarded-Proto": "ftp"}, PROXY, PLAIN),
        (PROXY, {"X-Forwarded-Host": "updates.test"}, PROXY, "http://updates.test"),
        (PROXY, {"X-Forwarded-Host": "evil.test, updates.test"}, PROXY, "http://updates.test"),
        (PROXY, {"X-Forwarded-Port": "8443"}, PROXY, PLAIN),
        (
            PROXY,
            {"Host": "updates.test", "X-Forwarded-Port": "81"},
            PROXY,
            "http://updates.test:81",
        ),
        (PROXY, {"Host": "updates.test", "X-Forwarded-Port": "80"}, PROXY, "http://updates.test"),
        (
            PROXY,
            {"Host": "updates.test", "X-Forwarded-Port": "x, 8"},
            PROXY,
            "http://updates.test:8",
        ),
        (
            PROXY,
            {"Host": "updates.test", "X-Forwarded-Port": "8000x"},
            PROXY,
            "http://updates.test",
        ),
        (
            PROXY,
            {
                "X-Forwarded-Host": "updates.test",
                "X-Forwarded-Port": "8443",
                "X-Forwarded-Proto": "https",
            },
            PROXY,
            "https://updates.test:8443",
        ),
        (
            PROXY,
            {"X-Forwarded-Host": "updates.test:8444", "X-Forwarded-Port": "8443"},
            PROXY,
            "http://updates.test:8444",
        ),
        (
            PROXY,
            {"X-Forwarded-Host": "[2001:db8::1]", "X-Forwarded-Port": "8443"},
            PROXY,
            "http://[2001:db8::1]:8443",
        ),
        (
            "127.0.0.4",
            {"Host": "updates.test", "X-Forwarded-Port": "81"},
            "127.0.0.4",
            "http://updates.test",
        ),
        (PROXY, {"Host": "mirror.lan.:8000"}, PROXY, "http://mirror.lan.:8000"),
        ("127.0.0.4", {"Host": "Mirror.Lan."}, "127.0.0.4", "http://mirror.lan."),
        (PROXY, {"X-Forwarded-Host": "[2001:db8::1]:80"}, PROXY, "http://[2001:db8::1]:80"),
        (
            "127.0.0.1",
            {
                "X-Forwarded-For": MACHINE,
                "X-Forwarded-Proto": "https",
                "X-Forwarded-Host": "evil.test",
            },
            "127.0.0.1",
            PLAIN,
        ),
        (
            "127.0.0.4",
            {"X-Forwarded-For": f"{MACHINE}, {PROXY}", "Forwarded": "for=1.1.1.1;proto=https"},
            "127.0.0.4",
            PLAIN,
        ),
        (PROXY, {"Forwarded": "for=1.1.1.1;host=evil.test;proto=https"}, PROXY, PLAIN),
    ],
)
async def test_only_a_trusted_proxy_is_believed(
    mirror: Mirror,
    address: Address,
    source: str,
    headers: dict[str, str],
    remote: str,
    told: str,
) -> None:
    answer, seen = await check(address, source, headers)
    assert (seen, base(answer)) == (remote, told)


@pytest.mark.parametrize(
    "host",
    ["evil test", "evil..:1..", ".", "[::1].", "evil.test/path", 'a"b', "", "user@evil.test"],
)
async def test_a_host_that_is_none_never_gets_into_an_answer(
    mirror: Mirror, address: Address, host: str
) -> None:
    answer, _ = await check(address, PROXY, {"X-Forwarded-Host": f"{host}," if host else ","})
    if answer.status == 200:
        assert base(answer) == PLAIN
    answer, _ = await check(address, PROXY, {"X-Forwarded-Host": host or "-"})
    assert answer.status == 400
    assert "Host" in answer.line


@pytest.mark.parametrize(
    ("target", "status"), [("http://a/healthz", 400), ("//a/healthz", 404), ("*", 400)]
)
async def test_no_target_of_a_request_makes_a_trusted_proxy_trouble(
    mirror: Mirror, address: Address, target: str, status: int
) -> None:
    headers = {"X-Forwarded-Host": "[", "X-Forwarded-Proto": "https"}
    async with dial(address, source=PROXY) as talk:
        await talk.send(request("GET", target, headers))
        assert (await talk.answer()).status == status


async def test_nobody_is_trusted_unless_configured(mirror: Mirror) -> None:
    headers = {"X-Forwarded-For": MACHINE, "X-Forwarded-Host": "evil.test"}
    answer, seen = await check(mirror.address, PROXY, headers)
    assert (seen, base(answer)) == (PROXY, PLAIN)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        (PROXY, [], PROXY),
        (PROXY, [""], PROXY),
        (PROXY, ["unknown"], PROXY),
        (PROXY, [f"{MACHINE}, unknown"], PROXY),
        (PROXY, [f"unknown, {FAR_PROXY}"], FAR_PROXY),
        (PROXY, [MACHINE, FAR_PROXY], MACHINE),
        (PROXY, [MACHINE, f"198.51.100.1,{FAR_PROXY}"], "198.51.100.1"),
        (PROXY, [f"{FAR_PROXY},{PROXY}"], FAR_PROXY),
        (PROXY, ["192.0.2.7:4711"], MACHINE),
        (PROXY, ["[2001:db9::1]:4711"], "2001:db9::1"),
        (PROXY, ["[2001:db9::1]"], "2001:db9::1"),
        (PROXY, [f"{MACHINE}, 2001:DB8::5"], MACHINE),
        (PROXY, [f"{MACHINE}, ::ffff:127.0.0.3"], MACHINE),
        (PROXY, ["1.2.3"], PROXY),
        (MACHINE, ["198.51.100.1"], MACHINE),
    ],
)
def test_the_nearest_address_that_is_no_proxy_is_the_client(
    peer: str, forwarded: Sequence[str], expected: str
) -> None:
    assert client_address(ip_address(peer), forwarded, TRUSTED) == expected
