from pathlib import Path

import pytest

from omaha_mirror.config import (
    Address,
    ConfigError,
    Follow,
    Hold,
    Pin,
    Problem,
    load,
    load_to_serve,
)

DIRECTORIES = {"CACHE_DIRECTORY": "/c", "STATE_DIRECTORY": "/s"}


def problems(environ: dict[str, str], path: Path | None = None) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load(path, DIRECTORIES | environ)
    return list(caught.value.problems)


def only_problem(environ: dict[str, str]) -> Problem:
    (problem,) = problems(environ)
    return problem


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(
        "listen: [':1']\ncache: {max_size: 1GB, min_free: 1GB}\ntracks: {lts: hold, edge: hold}\n"
    )
    return path


def test_a_variable_goes_before_the_file_and_leaves_the_keys_beside_it(path: Path) -> None:
    environ = {"OMAHA_MIRROR_CACHE__MAX_SIZE": "2GB", "OMAHA_MIRROR_UPSTREAM__RATE_LIMIT": "2MiB"}
    config = load(path, DIRECTORIES | environ)
    assert (config.cache.max_size, config.cache.min_free) == (2 * 10**9, 10**9)
    assert config.upstream.rate_limit == 2 * 2**20
    assert config.listen == (Address("", 1),)


def test_values_are_read_as_in_the_file() -> None:
    environ = {
        "OMAHA_MIRROR_LISTEN": "['0.0.0.0:8000', '[::1]:8000']",
        "OMAHA_MIRROR_ADMIN__LISTEN": ":8001",
        "OMAHA_MIRROR_ADMIN__TOKEN_FILE": "/run/token",
        "OMAHA_MIRROR_RELEASE_LAYOUT": "off",
        "OMAHA_MIRROR_UPSTREAM__OMAHA_URL": "null",
        "OMAHA_MIRROR_UPSTREAM__MAX_FILLS": "5",
        "OMAHA_MIRROR_UPSTREAM__FALLBACK_TO_UPSTREAM": "true",
        "OMAHA_MIRROR_DEFAULT_TRACK": "{mode: follow, delay: 48h}",
    }
    config = load(None, DIRECTORIES | environ)
    assert config.listen == (Address("0.0.0.0", 8000), Address("::1", 8000))
    assert config.admin.listen == (Address("", 8001),)
    assert config.release_layout == "off"
    assert config.upstream.omaha_url is None
    assert (config.upstream.max_fills, config.upstream.fallback_to_upstream) == (5, True)
    assert config.default_track == Follow(delay=48 * 3600.0)


def test_the_tracks_are_one_value(path: Path) -> None:
    environ = DIRECTORIES | {"OMAHA_MIRROR_TRACKS": '{stable: "4230.2", beta: hold}'}
    assert load(path, environ).tracks == {"stable": Pin(version="4230.2"), "beta": Hold()}


def test_a_variable_goes_before_the_directories_of_systemd() -> None:
    environ = {"OMAHA_MIRROR_CACHE__DIRECTORY": "/a", "OMAHA_MIRROR_STATE_DIRECTORY": "/b"}
    config = load(None, DIRECTORIES | environ)
    assert (config.cache.directory, config.state_directory) == (Path("/a"), Path("/b"))


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_variable_is_none(path: Path, empty: str) -> None:
    environ = {"OMAHA_MIRROR_LISTEN": empty, "OMAHA_MIRROR_UPSTREAM__OMAHA_URL": empty}
    assert load(path, DIRECTORIES | environ) == load(path, DIRECTORIES)


def test_null_puts_back_the_default(path: Path) -> None:
    environ = {"OMAHA_MIRROR_CACHE__MAX_SIZE": "null"}
    assert load(path, DIRECTORIES | environ).cache.max_size == 50 * 2**30


@pytest.mark.parametrize(
    ("name", "value", "key", "column", "message"),
    [
        ("CACHE__MAX_SIZE", "much", "cache.max_size", 1, "'much' is not a size"),
        ("LOG__LEVEL", "inf", "log.level", 1, "did you mean info?"),
        ("DEFAULT_TRACK", "4230.2", "default_track", 1, 'put it in quotes, "4230.2"'),
        ("TRACKS", "{a: hold, b: 4230.2}", "tracks.b", 14, "put it in quotes"),
        ("TRACKS", "{a: hold, a: hold}", "tracks.a", 11, "this key is already on line 1"),
        ("TRACKS", "{a: {versio: '1'}}", "tracks.a.version", 2, "is needed here"),
        ("LISTEN", "[:8000]", "listen", 2, "not valid YAML"),
        ("UPSTREAM__CA_FILE", "/nowhere", "upstream.ca_file", 1, "No such file"),
    ],
)
def test_what_is_wrong_names_the_variable_and_shows_its_value(
    name: str, value: str, key: str, column: int, message: str
) -> None:
    first, *_ = problems({f"OMAHA_MIRROR_{name}": value})
    assert (first.source, first.key) == (f"OMAHA_MIRROR_{name}", key)
    assert (first.line, first.column) == (0, column)
    assert message in first.message
    assert str(first).startswith(f"OMAHA_MIRROR_{name}: {key}: ")
    assert str(first).endswith(f"\n    {value}\n    {' ' * (column - 1)}^")


def test_a_wrong_file_and_wrong_variables_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("lisen: []\ncache: {max_size: much}\nupstream: no\n")
    environ = {
        "OMAHA_MIRROR_CACHE__MIN_FREE": "little",
        "OMAHA_MIRROR_UPSTREAM__MAX_FILLS": "0",
        "OMAHA_MIRROR_TRAKS": "{}",
    }
    assert [(p.source, p.line, p.key) for p in problems(environ, path)] == [
        (str(path), 1, "lisen"),
        (str(path), 2, "cache.max_size"),
        (str(path), 3, "upstream"),
        ("OMAHA_MIRROR_CACHE__MIN_FREE", 0, "cache.min_free"),
        ("OMAHA_MIRROR_TRAKS", 0, ""),
    ]


def test_a_broken_file_does_not_hide_a_wrong_variable(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("listen: [")
    sources = [problem.source for problem in problems({"OMAHA_MIRROR_TRACKS": "["}, path)]
    assert sources == [str(path), "OMAHA_MIRROR_TRACKS"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("OMAHA_MIRROR_UPSTREAM_RATE_LIMIT", "OMAHA_MIRROR_UPSTREAM__RATE_LIMIT"),
        ("OMAHA_MIRROR_cache__max_size", "OMAHA_MIRROR_CACHE__MAX_SIZE"),
        ("OMAHA_MIRROR_TRACKS__STABLE", "OMAHA_MIRROR_TRACKS"),
    ],
)
def test_an_unknown_variable_is_an_error_with_the_nearest_known_one(name: str, near: str) -> None:
    problem = only_problem({name: "follow"})
    assert str(problem) == f"{name}: no key of the config has this variable; did you mean {near}?"


def test_the_variable_of_a_section_is_told_how_a_key_of_it_is_named() -> None:
    problem = only_problem({"OMAHA_MIRROR_ADMIN": "{listen: []}"})
    assert str(problem) == (
        "OMAHA_MIRROR_ADMIN: a variable names one key of a section, as OMAHA_MIRROR_ADMIN__LISTEN"
    )


def test_an_unknown_variable_that_is_near_none_is_an_error() -> None:
    assert "did you mean" not in str(only_problem({"OMAHA_MIRROR_ZZZZZZZZ": ""}))


def test_what_kubernetes_sets_for_a_service_of_our_name_is_no_error() -> None:
    environ = {
        "OMAHA_MIRROR_SERVICE_HOST": "10.0.0.1",
        "OMAHA_MIRROR_SERVICE_PORT": "8000",
        "OMAHA_MIRROR_SERVICE_PORT_HTTP": "8000",
        "OMAHA_MIRROR_PORT": "tcp://10.0.0.1:8000",
        "OMAHA_MIRROR_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "OMAHA_MIRROR_PORT_8000_TCP_ADDR": "10.0.0.1",
    }
    assert load(None, DIRECTORIES | environ) == load(None, DIRECTORIES)


def test_a_password_of_a_variable_is_not_repeated_in_an_error() -> None:
    problem = only_problem({"OMAHA_MIRROR_UPSTREAM__PROXY": "http://user:s3cret@host/path"})
    assert "this is not the URL of a proxy" in str(problem)
    assert "s3cret" not in str(problem)


@pytest.mark.parametrize("name", ["all_proxy", "ALL_PROXY", "https_proxy"])
def test_a_proxy_that_cannot_be_used_is_refused_where_upstream_is_asked(name: str) -> None:
    environ = {**DIRECTORIES, name: "socks5h://me:secret@proxy:1080"}
    load(None, environ)
    with pytest.raises(ConfigError) as caught:
        load_to_serve(None, environ)
    [problem] = caught.value.problems
    assert problem.source == name
    assert "a SOCKS proxy cannot be used" in problem.message
    assert "secret" not in str(problem)
    load_to_serve(None, {**environ, "no_proxy": "flatcar-linux.net"})
    load_to_serve(None, {**environ, "OMAHA_MIRROR_UPSTREAM__PROXY": "http://proxy:3128"})
    with pytest.raises(ConfigError, match="a SOCKS proxy cannot be used"):
        load(None, {**DIRECTORIES, "OMAHA_MIRROR_UPSTREAM__PROXY": "socks5://proxy:1080"})
