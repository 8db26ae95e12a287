"""The proxy variables of the environment, as other programs read them."""

import pytest

from omaha_mirror.config.environment import exempt, proxy_of

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "expected"),
    [
        ("*", "a.example", 80, True),
        ("", "a.example", 80, False),
        ("a.example", "a.example", 80, True),
        ("A.Example.", "a.example", 80, True),
        ("a.example", "A.EXAMPLE.", 80, True),
        ("example", "a.example", 80, True),
        (".example", "a.example", 80, True),
        ("*.example", "a.example", 80, True),
        ("ample", "a.example", 80, False),
        ("a.example:8080", "a.example", 8080, True),
        ("a.example:8080", "a.example", 80, False),
        ("x, a.example y", "a.example", 80, True),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.0.0.1/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8:8080", "10.1.2.3", 8080, True),
        ("10.0.0.0/8:8080", "10.1.2.3", 80, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("10.1.2.3:80", "10.1.2.3", 80, True),
        ("2.3", "10.1.2.3", 80, False),
        ("10.0.0.0/8", "10.example", 80, False),
        ("[::1]", "::1", 80, True),
        ("::1", "::1", 80, True),
        ("[::1]:8080", "::1", 8080, True),
        ("[::1]:8080", "::1", 80, False),
        ("fd00::/8", "fd12::1", 80, True),
        ("[fd00::]/8", "fd12::1", 80, True),
        ("0:0:0:0:0:0:0:1", "::1", 80, True),
        ("10.0.0.0/8", "::ffff:10.0.0.1", 80, True),
        (".", "a.example", 80, False),
        (",,", "a.example", 80, False),
        ("[::1", "::1", 80, False),
        ("a.example:port", "a.example", 80, False),
    ],
)
def test_who_is_asked_without_a_proxy(no_proxy: str, host: str, port: int, expected: bool) -> None:
    assert exempt(host, port, no_proxy) is expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"http_proxy": PROXY}, ("http_proxy", PROXY)),
        ({"HTTP_PROXY": "proxy:3128"}, ("HTTP_PROXY", PROXY)),
        ({"https_proxy": PROXY}, None),
        ({"http_proxy": "", "HTTP_PROXY": PROXY, "all_proxy": PROXY}, None),
        ({"all_proxy": PROXY}, ("all_proxy", PROXY)),
        ({"ALL_PROXY": "socks5://p:1080"}, ("ALL_PROXY", "socks5://p:1080")),
        ({"http_proxy": PROXY, "all_proxy": "socks5://p:1080"}, ("http_proxy", PROXY)),
        ({"all_proxy": PROXY, "no_proxy": "a.example:80"}, None),
        ({"all_proxy": PROXY, "NO_PROXY": "a.example:443"}, ("all_proxy", PROXY)),
    ],
)
def test_which_proxy_the_environment_names(
    environ: dict[str, str], expected: tuple[str, str] | None
) -> None:
    assert proxy_of("http://a.example/x", environ) == expected


def test_the_address_of_this_host_is_asked_by_its_number() -> None:
    environ = {"https_proxy": PROXY, "no_proxy": "[::1]:8443"}
    assert proxy_of("https://[::1]:8443/x", environ) is None
    assert proxy_of("https://[::1]/x", environ) == ("https_proxy", PROXY)
