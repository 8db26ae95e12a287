"""The mirror asks the origins on its list, and no reading of an address leads elsewhere."""

import re

import pytest

from omaha_mirror.upstream.allowed import AllowList
from omaha_mirror.upstream.errors import Forbidden

LIST = AllowList(
    "https://*.flatcar-linux.net",
    "http://Mirror.Example:8080/",
    "https://[::1]:8443",
    "http://10.0.0.1",
    "https://bücher.example",
)


@pytest.mark.parametrize(
    "url",
    [
        "https://update.release.flatcar-linux.net/amd64-usr/1.2.3/x.gz",
        "https://a.b.flatcar-linux.net",
        "HTTPS://UPDATE.Flatcar-Linux.NET./x",
        "https://update.flatcar-linux.net:443/x?y#z",
        "http://mirror.example:8080/x",
        "http://mirror.example.:8080/x",
        "https://[::1]:8443/x",
        "https://[0:0::1]:8443/x",
        "http://10.0.0.1:80/",
        "https://xn--bcher-kva.example/",
        "https://bücher.example/",
    ],
)
def test_an_origin_on_the_list_may_be_asked(url: str) -> None:
    LIST.check(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://update.flatcar-linux.net/x",
        "https://flatcar-linux.net/x",
        "https://.flatcar-linux.net/x",
        "https://a..flatcar-linux.net/x",
        "https://a.flatcar-linux.net../x",
        "https://evilflatcar-linux.net/x",
        "https://update.flatcar-linux.net.evil.com/x",
        "https://update.flatcar-linux.net:8443/x",
        "https://evil.com#.flatcar-linux.net",
        "https://evil.com?.flatcar-linux.net",
        "https://evil.com/.flatcar-linux.net",
        "https://evil.com\\.flatcar-linux.net/x",
        "https://evil.com%2f.flatcar-linux.net/x",
        "https://evil.com%00.flatcar-linux.net/x",
        "https://evil.com;.flatcar-linux.net/x",
        "https://evil com.flatcar-linux.net/x",
        "https://*.flatcar-linux.net/x",
        "https://update.flatcar-linux.net@evil.com/x",
        "https://evil.com@update.flatcar-linux.net/x",
        "https://user:word@update.flatcar-linux.net/x",
        "https://evil.com。flatcar-linux.net.evil.com/x",
        "http://mirror.example/x",
        "https://mirror.example:8080/x",
        "http://10.0.0.1.evil.com/x",
        "http://167772161/x",
        "https://[::1%25lo]:8443/x",
        "ftp://mirror.example:8080/x",
        "file:///etc/passwd",
        "//update.flatcar-linux.net/x",
        "/x",
        "",
        "https://",
        "https://update.flatcar-linux.net:99999/x",
        "https://[::1/x",
    ],
)
def test_any_other_address_is_forbidden(url: str) -> None:
    with pytest.raises(Forbidden):
        LIST.check(url)


def test_what_was_checked_is_what_is_dialled() -> None:
    """A tab inside a host is dropped by the parser: the rest is what both see."""
    assert LIST.check("https://a\t.flatcar-linux.net/x").raw_host == "a.flatcar-linux.net"


def test_the_refusal_says_what_to_do() -> None:
    with pytest.raises(Forbidden, match=r"https://cdn\.example is not an upstream.*allowed_hosts"):
        LIST.check("https://cdn.example/x?token=secret")


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "flatcar-linux.net",
        "ftp://flatcar-linux.net",
        "https://",
        "https://*",
        "https://*.net",
        "https://a.*.net",
        "https://*.*.flatcar-linux.net",
        "https://a.flatcar-linux.net/path",
        "https://a.flatcar-linux.net?q",
        "https://evil.com#.flatcar-linux.net",
        "https://me@a.flatcar-linux.net",
        "https://a.flatcar-linux.net:99999",
    ],
)
def test_a_pattern_of_another_form_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(pattern))):
        AllowList(pattern)
