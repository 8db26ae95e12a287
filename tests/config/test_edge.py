"""TLS, passwords and proxies in the config: what goes together, and files that cannot be used."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from omaha_mirror.config import Address, Config, ConfigError, load
from tests.web.secure import OURS, make_certificate

ENVIRON = {"HOME": "/h"}


def config(folder: Path, text: str) -> Config:
    path = folder / "config.yaml"
    path.write_text(text)
    return load(path, ENVIRON)


def problem(folder: Path, text: str) -> str:
    """The one thing that is wrong, after the name of the file."""
    with pytest.raises(ConfigError) as caught:
        config(folder, text)
    (found,) = caught.value.problems
    return str(found).removeprefix(str(folder / "config.yaml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Has a certificate with its key, one that is over, and a password."""
    make_certificate(tmp_path / "mine.pem")
    make_certificate(tmp_path / "other.pem")
    make_certificate(tmp_path / "over.pem", days=-1)
    (tmp_path / "text").write_text("secret\n")
    return tmp_path


def test_all_of_it_is_off_unless_configured(tmp_path: Path) -> None:
    found = config(tmp_path, "")
    assert (found.tls.certificate, found.packages_auth.user, found.trusted_proxies) == (
        None,
    ) * 2 + ((),)


def test_all_of_it_together(folder: Path) -> None:
    found = config(
        folder,
        "public_url: https://mirror.example:8443\n"
        "tls: {certificate: mine.pem}\n"
        "packages_auth: {user: fleet, password_file: text}\n"
        "trusted_proxies: [10.0.0.5, '2001:db8::/32', 192.168.7.0/24]\n",
    )
    assert found.tls.listen == (Address("0.0.0.0", 8443),)
    assert (found.tls.certificate, found.tls.key) == (folder / "mine.pem", None)
    assert found.packages_auth.password_file == folder / "text"
    assert list(map(str, found.trusted_proxies)) == [
        "10.0.0.5/32",
        "2001:db8::/32",
        "192.168.7.0/24",
    ]


def test_the_certificate_in_tests_can_be_used(tmp_path: Path) -> None:
    assert config(tmp_path, f"tls: {{certificate: {OURS}}}").tls.certificate == OURS


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        ("tls: {certificate: none.pem}", ":1:20: tls.certificate", "No such file"),
        ("tls:\n  certificate: text", ":2:16: tls.certificate", "holds no PEM certificate"),
        ("tls:\n  certificate: over.pem", ":2:16: tls.certificate", "ended on 2"),
        ("tls: {certificate: mine.pem, key: none.pem}", ":1:35: tls.key", "No such file"),
        ("tls: {certificate: mine.pem, key: text}", ":1:6: tls", "text holds no PEM key"),
        ("tls: {certificate: mine.pem, key: other.pem}", ":1:6: tls", "does not belong to"),
        ("tls: {key: mine.pem}", ":1:6: tls", "set tls.certificate"),
        ("tls: {listen: ':443'}", ":1:6: tls", "set tls.certificate"),
        ("tls: {certificate: mine.pem, listen: []}", ":1:38: tls.listen", "cannot be empty"),
        ("packages_auth: {user: a}", ":1:16: packages_auth", "set both"),
        ("packages_auth: {password_file: text}", ":1:16: packages_auth", "set both"),
        (
            "packages_auth: {user: 'a:b', password_file: text}",
            ":1:23: packages_auth.user",
            "no colon",
        ),
        (
            "packages_auth: {user: a, password_file: none}",
            ":1:41: packages_auth.password_file",
            "No such file",
        ),
        (
            "packages_auth: {user: a, password_file: text}",
            ":1:16: packages_auth",
            "set tls.certificate",
        ),
        (
            "tls: {certificate: mine.pem}\npackages_auth: {user: a, password_file: text}",
            ":2:16: packages_auth",
            "set public_url",
        ),
        (
            "{public_url: http://a, tls: {certificate: mine.pem},\n packages_auth: {user: a, password_file: text}}",
            ":2:17: packages_auth",
            "set public_url",
        ),
        ("trusted_proxies: 10.0.0.1", ":1:18: trusted_proxies", "must be a list"),
        ("trusted_proxies: [proxy.example]", ":1:19: trusted_proxies.0", "such as 10.0.0.0/8"),
        ("trusted_proxies: [10.1.0.0/8]", ":1:19: trusted_proxies.0", "has host bits set"),
        ("trusted_proxies: [5]", ":1:19: trusted_proxies.0", "YAML reads 5 as a number"),
        ("trusted_proxies: [10.0.0.1, 10.0.0.1/32]", ":1:18: trusted_proxies", "twice"),
    ],
)
def test_what_cannot_work_is_told_with_its_place(
    folder: Path, text: str, at: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omaha_mirror.config.credentials.kernel_synchronised", lambda: True)
    said = problem(folder, text)
    assert said.startswith(f"{at}: "), said
    assert words in said


@pytest.mark.parametrize("place", ["/dev/zero", "pipe", "large"])
@pytest.mark.parametrize(
    "text",
    [
        "tls: {certificate: %s}",
        "tls: {certificate: mine.pem, key: %s}",
        "packages_auth: {user: a, password_file: %s}",
        "upstream: {ca_file: %s}",
        "upstream: {public_keys: [%s]}",
    ],
)
def test_what_never_ends_is_no_file(folder: Path, text: str, place: str) -> None:
    os.mkfifo(folder / "pipe")
    with (folder / "large").open("wb") as file:
        file.truncate(1 << 40)
    said = problem(folder, text % place)
    assert "is no regular file" in said or "has more than" in said


def test_authorities_are_in_pem(folder: Path) -> None:
    assert "text holds no PEM certificate" in problem(folder, "upstream: {ca_file: text}")
    assert config(folder, "upstream: {ca_file: mine.pem}").upstream.ca_file == folder / "mine.pem"


def test_a_clock_that_may_be_wrong_stops_no_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that is years ahead every certificate is over."""
    monkeypatch.setattr("omaha_mirror.config.credentials.kernel_synchronised", lambda: False)
    over = folder / "over.pem"
    assert config(folder, f"tls: {{certificate: {over}}}").tls.certificate == over


def test_what_only_the_mirror_may_read_is_left_to_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Callable[..., IO[Any]] = Path.open

    def open_(path: Path, *args: Any, **kwargs: Any) -> IO[Any]:
        if path.name in ("other.pem", "text"):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_)
    found = config(
        folder,
        "public_url: https://a\ntls: {certificate: mine.pem, key: other.pem}\n"
        "packages_auth: {user: a, password_file: text}",
    )
    assert found.tls.key == folder / "other.pem"
