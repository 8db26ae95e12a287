import re
import shutil
import time
from pathlib import Path

import pytest

from omaha_mirror.config import (
    Address,
    CacheConfig,
    Config,
    ConfigError,
    Follow,
    Hold,
    Pin,
    Problem,
    Relay,
    Track,
    UpstreamConfig,
    load,
)

AUTHORITY = Path(__file__).parent.parent / "data" / "tls" / "authority.pem"
ENVIRON = {"CACHE_DIRECTORY": "/var/cache/omaha-mirror", "STATE_DIRECTORY": "/var/lib/omaha-mirror"}


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "config.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problems(folder: Path, text: str | bytes) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load(written(folder, text), ENVIRON)
    return list(caught.value.problems)


def only_problem(folder: Path, text: str | bytes) -> Problem:
    (problem,) = problems(folder, text)
    return problem


def test_without_a_file_every_key_has_its_default() -> None:
    config = load(None, ENVIRON)
    assert config == Config(
        cache=CacheConfig(directory=Path("/var/cache/omaha-mirror")),
        state_directory=Path("/var/lib/omaha-mirror"),
    )
    assert config.listen == (Address("0.0.0.0", 8000),)
    assert config.public_url is None
    assert (config.cache.max_size, config.cache.min_free) == (50 * 2**30, 2 * 2**30)
    assert config.cache.hold_back == 2**20
    assert config.release_layout == "offered"
    assert (config.upstream.connect_timeout, config.upstream.stall_timeout) == (30, 5)
    assert (config.default_track, dict(config.tracks)) == (Follow(), {})


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~\n", "\ufeff", "cache:\ntracks:\n"])
def test_a_file_that_says_nothing_is_the_defaults(tmp_path: Path, text: str) -> None:
    assert load(written(tmp_path, text), ENVIRON) == load(None, ENVIRON)


@pytest.mark.parametrize(
    ("environ", "cache", "state"),
    [
        (ENVIRON, "/var/cache/omaha-mirror", "/var/lib/omaha-mirror"),
        (
            {"CACHE_DIRECTORY": "/c/a:/c/b", "XDG_STATE_HOME": "/x", "HOME": "/h"},
            "/c/a",
            "/x/omaha-mirror",
        ),
        (
            {"XDG_CACHE_HOME": "relative/is/ignored", "HOME": "/h"},
            "/h/.cache/omaha-mirror",
            "/h/.local/state/omaha-mirror",
        ),
    ],
)
def test_directories_come_from_systemd_then_xdg_then_home(
    environ: dict[str, str], cache: str, state: str
) -> None:
    config = load(None, environ)
    assert (config.cache.directory, config.state_directory) == (Path(cache), Path(state))


def test_without_any_place_for_the_directories_both_are_asked_for() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {})
    keys = [problem.key for problem in caught.value.problems]
    assert keys == ["cache.directory", "state_directory"]
    assert "none of $CACHE_DIRECTORY, $XDG_CACHE_HOME and $HOME is set" in str(caught.value)


def test_a_directory_of_the_environment_is_checked_as_one_of_the_file() -> None:
    with pytest.raises(ConfigError, match=r"^config: cache.directory: ~ is not expanded here"):
        load(None, ENVIRON | {"CACHE_DIRECTORY": "~/packages"})


def test_paths_are_relative_to_the_folder_of_the_file(tmp_path: Path) -> None:
    shutil.copy(AUTHORITY, tmp_path / "ca.pem")
    text = "cache: {directory: packages}\nstate_directory: /s\nupstream: {ca_file: ca.pem}\n"
    config = load(written(tmp_path, text), {})
    assert config.cache.directory == tmp_path / "packages"
    assert config.state_directory == Path("/s")
    assert config.upstream.ca_file == tmp_path / "ca.pem"


def test_values_are_read_in_the_forms_people_write(tmp_path: Path) -> None:
    text = """\
listen: [":8000", "[::1]:8001"]
public_url: HTTP://Mirror.Example:8000/
cache: {max_size: 10GiB, min_free: 0, hold_back: 1}
release_layout: off
upstream:
  release_url: https://releases.example/flatcar/
  app_ids: ["{E96281A6-D1AF-4BDE-9A0A-97B76E56DC57}"]
  allowed_hosts: [HTTPS://*.Example.org:8443/]
  proxy: http://user:p%40ss@[::1]:3128
  connect_timeout: 1m
  stall_timeout: 500ms
"""
    config = load(written(tmp_path, text), ENVIRON)
    assert config.listen == (Address("", 8000), Address("::1", 8001))
    assert config.public_url == "http://mirror.example:8000"
    assert (config.cache.max_size, config.cache.min_free, config.cache.hold_back) == (
        10 * 2**30,
        0,
        1,
    )
    assert config.release_layout == "off"
    upstream = config.upstream
    assert upstream.release_url == "https://releases.example/flatcar"
    assert upstream.app_ids == ("e96281a6-d1af-4bde-9a0a-97b76e56dc57",)
    assert upstream.allowed == (
        "https://public.update.flatcar-linux.net",
        "https://releases.example",
        "https://*.flatcar-linux.net",
        "https://flatcar.cdn.cncf.io",
        "https://*.example.org:8443",
    )
    assert upstream.proxy == "http://user:p%40ss@[::1]:3128"
    assert (upstream.connect_timeout, upstream.stall_timeout) == (60, 0.5)


def test_one_address_needs_no_list(tmp_path: Path) -> None:
    text = 'listen: ":8000"\nadmin: {listen: "localhost:8001"}\n'
    config = load(written(tmp_path, text), ENVIRON)
    assert config.listen == (Address("", 8000),)
    assert config.admin.listen == (Address("localhost", 8001),)
    problem = only_problem(tmp_path, "listen: mirror\n")
    assert (problem.key, problem.column) == ("listen", 9)


def test_a_distribution_sets_the_defaults_and_a_key_overrides_one(tmp_path: Path) -> None:
    text = "upstream: {distribution: coreos, payload_name: other.gz}"
    upstream = load(written(tmp_path, text), ENVIRON).upstream
    assert upstream.release_url == "https://update.release.core-os.net"
    assert upstream.payload_name == "other.gz"
    assert upstream.allowed == (
        "https://public.update.core-os.net",
        "https://update.release.core-os.net",
    )
    assert UpstreamConfig().payload_name == "flatcar_production_update.gz"


def test_each_form_of_a_track(tmp_path: Path) -> None:
    text = """\
default_track: "4230.2.0"
tracks:
  lts: hold
  edge: 4230.2.1
  canary: {version: "4230.2", packages: [oem-azure.gz, flatcar-zfs.gz], allow_downgrade: true}
"""
    config = load(written(tmp_path, text), ENVIRON)
    assert config.track("lts") == Hold()
    assert config.track("edge") == Pin(version="4230.2.1")
    assert config.track("canary") == Pin(
        version="4230.2", packages=("oem-azure.gz", "flatcar-zfs.gz"), allow_downgrade=True
    )
    assert config.track("never heard of") == Pin(version="4230.2.0")


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("4230.2", 'YAML reads 4230.2 as a number: put it in quotes, "4230.2"'),
        ("10:30", 'YAML reads 10:30 as the number 630: put it in quotes, "10:30"'),
        ("4_230", 'YAML reads 4_230 as the number 4230: put it in quotes, "4_230"'),
        ("no", 'YAML reads no as a boolean: put it in quotes, "no"'),
        ("2023-01-01", 'YAML reads 2023-01-01 as a date: put it in quotes, "2023-01-01"'),
        ("{version: 4230.2}", 'YAML reads 4230.2 as a number: put it in quotes, "4230.2"'),
        ("", "has no value: give one, or remove the key"),
        ("[hold]", "must be text"),
        ("hodl", "cannot read the version 'hodl'"),
        ("{packages: []}", "the key version is needed here"),
        ("{version: '1.2', packages: [update.gz]}", "is not an extra package"),
        ("{version: '1.2', packages: [oem-/../x.gz]}", "is not an extra package"),
        ("{version: '1.2', packages: [oem-a.gz, oem-a.gz]}", "oem-a.gz is in the list twice"),
        ("{version: '1.2', packages: oem-a.gz}", "must be a list"),
    ],
)
def test_a_track_that_is_neither_hold_nor_a_version_is_refused(
    tmp_path: Path, text: str, advice: str
) -> None:
    assert advice in only_problem(tmp_path, f"tracks:\n  stable: {text}\n").message


@pytest.mark.parametrize(
    ("text", "track"),
    [
        ("follow", Follow()),
        ("{mode: follow}", Follow()),
        ("relay", Relay()),
        (
            '{mode: follow, delay: 48h, ramp: 1d, max_version: "4300.0.0"}',
            Follow(delay=48 * 3600, ramp=24 * 3600, max_version="4300.0.0"),
        ),
        ('{version: "4230.2.1", skip_floors: true}', Pin(version="4230.2.1", skip_floors=True)),
        (
            "{mode: relay, upstream_track: stable}",
            Relay(upstream_track="stable"),
        ),
        (
            "{mode: follow, upstream_track: stable}",
            Follow(upstream_track="stable"),
        ),
    ],
)
def test_each_mode_of_a_track(tmp_path: Path, text: str, track: Track) -> None:
    config = load(written(tmp_path, f"default_track: {text}"), ENVIRON)
    assert config.track("any") == track


@pytest.mark.parametrize(
    ("text", "key", "place", "advice"),
    [
        ("{mode: follow, dely: 48h}", "tracks.a.dely", (1, 28), "did you mean delay?"),
        ("{mode: follow, delay: soon}", "tracks.a.delay", (1, 35), "is not a duration"),
        ("{mode: follow, delay: 0s, version: '1'}", "tracks.a.version", (1, 39), "unknown key"),
        ("{mode: follow, max_version: 4230.2}", "tracks.a.max_version", (1, 41), "put it in"),
        ("{mode: relay, delay: 1s}", "tracks.a", (1, 13), "no further keys: write just relay"),
        ("{mode: folow}", "tracks.a", (1, 13), 'only "mode: follow" has more to say'),
    ],
)
def test_what_is_wrong_with_a_mode_is_said_where_it_is(
    tmp_path: Path, text: str, key: str, place: tuple[int, int], advice: str
) -> None:
    problem = only_problem(tmp_path, f"tracks: {{a: {text}}}")
    assert (problem.key, (problem.line, problem.column)) == (key, place)
    assert advice in problem.message


def test_no_omaha_server_can_be_wanted(tmp_path: Path) -> None:
    upstream = load(written(tmp_path, "upstream: {omaha_url: null}"), ENVIRON).upstream
    assert upstream.omaha_url is None
    assert upstream.allowed == (
        "https://update.release.flatcar-linux.net",
        "https://*.flatcar-linux.net",
        "https://flatcar.cdn.cncf.io",
    )


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("lisen: []", "lisen", "unknown key; did you mean listen?"),
        ("cache: {max_sise: 1GB}", "cache.max_sise", "unknown key; did you mean max_size?"),
        ("upstream: {zzz: 1}", "upstream.zzz", "unknown key"),
        ("zzz:", "zzz", "unknown key"),
        (
            "tracks: {a: {version: '1.2', allow_downgrades: true}}",
            "tracks.a.allow_downgrades",
            "unknown key; did you mean allow_downgrade?",
        ),
    ],
)
def test_an_unknown_key_is_an_error_with_the_nearest_known_one(
    tmp_path: Path, text: str, key: str, message: str
) -> None:
    problem = only_problem(tmp_path, text)
    assert (problem.key, problem.message) == (key, message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listen: []", "cannot be empty"),
        ("listen: [':1', ':1']", ":1 is in the list twice"),
        ("listen: [8000]", 'put it in quotes, "8000"'),
        ("listen: [~]", "has no value"),
        ("public_url: mirror:8000", "must start with http:// or https://"),
        ("public_url: http://mirror/v1/update/", "write http://mirror"),
        ("public_url: http://mirror?x", "cannot have a query"),
        ("public_url: 'http://mir ror'", "spaces"),
        ("public_url: http://user@mirror", "a user or password has no place"),
        ("public_url: http://mirror:0", "is not a port"),
        ("public_url: http://mirror:x", "is not a port"),
        ("public_url: http://[mirror]", "an IPv6 address in brackets"),
        ("public_url: 'http://[::1'", "an IPv6 address in brackets"),
        ("public_url: http://bücher.example", "is not a host name"),
        ("cache: []", "must be a mapping"),
        ("cache: {max_size: 10G}", "is not a size"),
        ("cache: {max_size: 0}", "must be at least 1"),
        ("cache: {min_free: -1}", "must be at least 0"),
        ("cache: {hold_back: 0B}", "must be at least 1"),
        ("cache: {directory: ~/cache}", "~ is not expanded"),
        ("cache: {directory: [a]}", "must be a path"),
        ("cache: {directory: ''}", "cannot be empty"),
        ("state_directory: ''", "cannot be empty"),
        ("release_layout: any", "must be 'offered' or 'off'"),
        ("release_layout: true", 'put it in quotes, "true"'),
        ("upstream: {distribution: flatcr}", "'coreos'; did you mean flatcar?"),
        ("upstream: {payload_name: ../x}", "is not a plain file name"),
        ("upstream: {app_ids: []}", "cannot be empty"),
        ("upstream: {app_ids: [x]}", "is not a UUID"),
        ("upstream: {allowed_hosts: ['https://a/b']}", "without a path: write https://a"),
        ("upstream: {allowed_hosts: ['https://a*.b']}", "is not a host name"),
        ("upstream: {ca_file: nope.pem}", "No such file or directory"),
        ("upstream: {ca_file: .}", "is no regular file"),
        ("upstream: {stall_timeout: 0s}", "must be more than 0"),
        ("upstream: {stall_timeout: .inf}", "must be a finite number"),
        ('cache: {directory: "a\\0b"}', "a path has no NUL character"),
        ("listen: 8000", "YAML reads 8000 as a number"),
        ("upstream: {stall_timeout: 5s}\nlog: {level: inf}", "did you mean info?"),
        ("log: {level: WARN}", "did you mean warning?"),
        ("listen: [':80', '0.0.0.0:80']", ":80 and 0.0.0.0:80 are the same place"),
        ("release_layout: offerd", "did you mean offered?"),
        ("upstream: {distribution: flatkar}", "did you mean flatcar?"),
        ("cache: {when_abandoned: Stop}", "did you mean stop?"),
        ("default_track: Folow", "did you mean follow?"),
        ("tracks: {a: {mode: relai}}", "did you mean relay?"),
        ("tracks: {a: {mode: follow, delay: 48}}", "such as 48h"),
        ("tracks: {a: {mode: follow, ramp: '24'}}", "such as 24h"),
        ("upstream: {stall_timeout: 7}", "such as 7s"),
        ("upstream: {connect_timeout: 0.5}", "0.5 is not a duration"),
        ("upstream: {poll_interval: 15}", "such as 15m"),
        ("fleet: {retention: 90}", "such as 90d"),
        ("upstream: {poll_interval: 59s}", "must be at least 1m"),
        ("upstream: {stall_timeout: 0}", "must be more than 0s"),
        ("cache: {max_size: 0}", "must be at least 1B"),
        ("cache: {hold_back: 33MiB}", "must be at most 32MiB"),
        ("upstream: {rate_limit: 1B}", "must be at least 1KiB"),
        ("upstream: {max_connections: 17}", "must be at most 16"),
        ("upstream: {max_connections: many}", "must be a whole number"),
        ("upstream: {max_connections: 1.5}", "must be a whole number"),
        ("upstream: {max_connections: '4'}", "must be a whole number"),
        ("upstream: {fallback_to_upstream: 'yes'}", "must be true or false"),
        ("upstream: {proxy: 'http://user:***@proxy:3128'}", "a password that is not shown"),
        ("tracks: [hold]", "must be a mapping"),
        ("tracks: {'': hold}", "cannot be empty"),
        ("tracks: {a: {version: '1.2', allow_downgrade: maybe}}", "must be true or false"),
    ],
)
def test_a_wrong_value_is_told_in_words(tmp_path: Path, text: str, message: str) -> None:
    assert message in only_problem(tmp_path, text).message


def test_all_problems_are_told_in_the_order_of_the_file_each_with_its_place(tmp_path: Path) -> None:
    text = """\
lisen: []
cache:
  max_size: 40 GBB
tracks:
  stable: 4230.2
  beta: hold
  beta: hold
  edge: {versio: "1.2"}
"""
    found = [(p.line, p.column, p.key) for p in problems(tmp_path, text)]
    assert found == [
        (1, 1, "lisen"),
        (3, 13, "cache.max_size"),
        (5, 11, "tracks.stable"),
        (7, 3, "tracks.beta"),
        (8, 3, "tracks.edge.version"),
        (8, 10, "tracks.edge.versio"),
    ]


def test_a_problem_is_shown_with_its_line_and_a_caret(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, "# sizes\ncache: {min_free: much}\n")
    assert str(problem) == (
        f"{tmp_path}/config.yaml:2:19: cache.min_free: 'much' is not a size: write a whole number "
        "and one of B, kB, KiB, MB, MiB, GB, GiB, TB, TiB, such as 10GiB\n"
        "    cache: {min_free: much}\n"
        "                      ^"
    )


def test_a_long_line_is_shown_around_the_caret(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, f"tracks: {{{'c' * 100}: hold, {'d' * 100}: hodl}}")
    *_, line, caret = str(problem).splitlines()
    assert len(line) < 130
    assert line[caret.index("^") :].startswith("hodl")


@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:s3cret word@host:3128",
        "http://user:s3cret/x@host",
        "http://us@er:s3cret@host",
        "htp://user:s3cret@host",
        "user:s3cret@host",
        "http://user:s3cret@host:99999",
        "http://user:s3cret@host/path",
    ],
)
def test_a_password_is_not_repeated_in_an_error(tmp_path: Path, proxy: str) -> None:
    problem = only_problem(tmp_path, f"upstream:\n  proxy: {proxy}\n")
    assert "this is not the URL of a proxy" in problem.message
    assert "s3cret" not in str(problem)


def test_a_password_is_not_in_the_repr(tmp_path: Path) -> None:
    path = written(tmp_path, "upstream: {proxy: 'http://user:s3cret@host'}")
    assert "s3cret" not in repr(load(path, ENVIRON))


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("cache:\n\tmax_size: 1GB\n", (2, 1), "a tab where YAML wants spaces"),
        ("listen: [", (1, 10), "not valid YAML"),
        ("a: b: c", (1, 5), "not valid YAML: mapping values are not allowed here"),
        ("listen: [:8000]", (1, 10), "not valid YAML"),
        ("log:\n  level: info\n---\nlog: {}\n", (3, 1), "expected a single document"),
        ("log: *level\n", (1, 6), "found undefined alias"),
        ("just words", (1, 1), "the file must be a mapping"),
        ("- listen", (1, 1), "the file must be a mapping"),
        ("tracks: {a: hold, a: hold}", (1, 19), "this key is already on line 1"),
        ("tracks: {no: hold}", (1, 10), "does not read this key as text: put it in quotes"),
        ("tracks: {[a]: hold}", (1, 10), "does not read this key as text: put it in quotes"),
        ("tracks: {<<: {a: hold}}", (1, 10), "does not read this key as text"),
        ("tracks: {a: &x hold, b: *x}", (1, 22), "aliases (*name) are not read"),
        ("log: &x\n  level: *x\n", (2, 3), "aliases (*name) are not read"),
        ("log: !!set {level}", (1, 6), "the tag tag:yaml.org,2002:set is not read"),
        ("log: {level: !!python/name:os.system x}", (1, 14), "cannot be read as"),
        ("state_directory: !!int ten", (1, 18), "'ten' cannot be read as int"),
        ("state_directory: 2023-13-45", (1, 18), "'2023-13-45' cannot be read as timestamp"),
        ("log:\n  level: in\0fo", (2, 12), "this is not text"),
    ],
)
def test_yaml_that_cannot_be_meant_is_told_where_it_stands(
    tmp_path: Path, text: str, place: tuple[int, int], message: str
) -> None:
    problem = only_problem(tmp_path, text)
    assert message in problem.message
    assert (problem.line, problem.column) == place


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\x7fELF\x02\xff\xfe", "not UTF-8 text: byte 0xff at offset 5"),
        ("listen: []".encode("utf-16"), "not UTF-8 text"),
        (b"#" * (64 * 1024 + 1), "larger than 64 KiB"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, raw: bytes, message: str) -> None:
    problem = only_problem(tmp_path, raw)
    assert message in problem.message
    assert problem.source == str(tmp_path / "config.yaml")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"/nowhere/config.yaml: there is no such file"):
        load(Path("/nowhere/config.yaml"), ENVIRON)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}: cannot be read: Is a directory")):
        load(tmp_path, ENVIRON)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 60_000,
        "a: &a [x, x]\n"
        + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(24)
        ),
        "tracks: {a: " + "9" * 60_000 + "}",
        "".join(f"k{i}: 1\n" for i in range(7_000)),
    ],
    ids=["deep", "aliases", "digits", "keys"],
)
def test_a_hostile_file_is_refused_in_seconds(tmp_path: Path, text: str) -> None:
    began = time.process_time()
    assert problems(tmp_path, text)
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listen: ':8001'", "admin.listen 127.0.0.1:8001 and listen :8001 are the same place"),
        ("listen: '0.0.0.0:8001'", "are the same place"),
        ("listen: 'localhost:8001'", "are the same place"),
        ("listen: '[::1]:80'\nadmin: {listen: '[::]:80', token_file: t}", "are the same place"),
        ("listen: 'a.example:80'\nadmin: {listen: 'a.example:80', token_file: t}", "same place"),
    ],
)
def test_two_listeners_at_one_place_are_refused(tmp_path: Path, text: str, words: str) -> None:
    problem = only_problem(tmp_path, text)
    assert problem.key == "admin"
    assert problem.line > 0
    assert words in problem.message


@pytest.mark.parametrize(
    "text",
    [
        "listen: '[::1]:8001'",
        "listen: '192.0.2.1:8001'",
        "listen: '127.0.0.1:0'\nadmin: {listen: '127.0.0.1:0'}",
        "listen: ':8443'",
        "listen: ':8001'\nadmin: {listen: []}",
    ],
)
def test_two_listeners_beside_each_other_are_fine(tmp_path: Path, text: str) -> None:
    load(written(tmp_path, text), ENVIRON)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:secret@h/n", "'mysql' is no database that can be used"),
        ("postgrsql://u:secret@h/n", "did you mean postgresql?"),
        ("postgresql+asyncpg://u:secret@h/n", "did you mean postgresql?"),
        ("u:secret@h", "this is not the URL of a database"),
        ("sqlite://", "an SQLite database is a file"),
        ("sqlite:///:memory:", "an SQLite database is a file"),
        ("sqlite://fleet.db", "an SQLite database is a file"),
        ("sqlite:////dev/null", "/dev/null is no file"),
        ("sqlite:////dev?mode=rwc", "/dev is no file"),
        ("postgresql://u:secret@h:99999/n", "does not name a host and port"),
        ("postgresql://", "does not name a host and port"),
        ("postgresql://u:p@secret/@h/n", "with %-escapes in the password"),
        ("postgresql://u:p/secret@h/n", "with %-escapes in the password"),
        ("postgresql://u:#secret?@h/n", "with %-escapes in the password"),
        ("postgresql://u:***@h/n", "write the password itself"),
    ],
)
def test_a_database_that_cannot_be_used_is_said_without_its_password(
    tmp_path: Path, url: str, words: str
) -> None:
    problem = only_problem(tmp_path, f"fleet: {{database: '{url}'}}")
    assert problem.key == "fleet.database"
    assert words in problem.message
    assert "secret" not in str(problem)


def test_a_driver_that_is_missing_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omaha_mirror.config.urls.find_spec", lambda _: None)
    problem = only_problem(tmp_path, "fleet: {database: 'postgresql://u:secret@h/n'}")
    assert "install asyncpg" in problem.message
    assert "secret" not in str(problem)
    load(written(tmp_path, "fleet: {database: 'sqlite:////srv/fleet.db'}"), ENVIRON)


def test_a_release_server_can_be_left_out(tmp_path: Path) -> None:
    config = load(written(tmp_path, "upstream: {release_url: null}"), ENVIRON)
    assert config.upstream.release_url is None
    assert not any("update.release" in origin for origin in config.upstream.allowed)
