import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from omaha_mirror.config import ConfigError, load
from omaha_mirror.config.schema import schema

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
ENVIRON = {"HOME": "/h"}
SCHEMA = schema()


def is_accepted(text: str) -> bool:
    """Whether the schema accepts a file as the mirror's own reader of YAML sees it."""
    data = yaml.safe_load(text)
    return Draft202012Validator(SCHEMA).is_valid({} if data is None else data)


def loads(folder: Path, text: str) -> bool:
    path = folder / "config.yaml"
    path.write_text(text)
    try:
        load(path, ENVIRON)
    except ConfigError:
        return False
    return True


GOOD = [
    "",
    "cache:\ntracks:\nlisten:\nlog: {level: }\n",
    EXAMPLE.read_text(),
    'listen: ":8000"',
    'listen: [":8000", "[::1]:8001"]\nadmin: {listen: []}',
    "cache: {max_size: 10GiB, min_free: 500 mb, hold_back: 1}",
    "cache: {max_size: '1048576', min_free: 0}",
    "state_directory: state",
    "release_layout: off",
    "upstream: {omaha_url: null, rate_limit: null, poll_interval: 1h30m}",
    "upstream: {connect_timeout: 1500ms, stall_timeout: 500ms, max_connections: 16}",
    "upstream: {app_ids: ['{E96281A6-D1AF-4BDE-9A0A-97B76E56DC57}'], proxy: 'http://a:b@c:1'}",
    "default_track: relay",
    'tracks: {a: follow, b: hold, c: "4230.2", d: 4230.2.1-github-pr-12+x.1}',
    'tracks: {a: {version: "1", packages: [oem-azure.gz], allow_downgrade: true}}',
    'tracks: {a: {mode: follow}, b: {mode: follow, delay: 48h, ramp: 0, max_version: "4300.0"}}',
]

BAD = [
    "[]",
    "lisen: []",
    "listen: []",
    "listen: 8000",
    "listen: mirror",
    "cache: {max_size: 40 GBB}",
    "cache: {max_size: 10G}",
    "cache: {max_size: 0}",
    "cache: {hold_back: 33554433}",
    "cache: {max_size: 1.5}",
    "cache: no",
    "state_directory: 5",
    "release_layout: true",
    "upstream: {distribution: flatcr}",
    "upstream: {app_ids: []}",
    "upstream: {max_connections: 17}",
    "upstream: {max_connections: '4'}",
    "upstream: {fallback_to_upstream: 'true'}",
    "upstream: {poll_interval: 59}",
    "upstream: {stall_timeout: 0}",
    "upstream: {stall_timeout: 30 s}",
    "upstream: {stall_timeout: '30'}",
    "log: {level: inf}",
    "default_track: 4230.2",
    "tracks: {'': hold}",
    "tracks: {a: hodl}",
    "tracks: {a: }",
    "tracks: {a: [hold]}",
    "tracks: {a: {packages: []}}",
    "tracks: {a: {version: }}",
    "tracks: {a: {mode: relay}}",
    "tracks: {a: {mode: follow, version: '1'}}",
    "tracks: {a: {mode: follow, dely: 48h}}",
]

BEYOND_A_SCHEMA = [
    "listen: [':1', ':1']",
    "admin: {listen: [':8001']}",
    "cache: {hold_back: 33MiB}",
    "upstream: {ca_file: /nowhere}",
    "upstream: {allowed_hosts: ['https://a/b']}",
]


def test_it_is_a_schema_of_the_draft_that_it_names() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("text", GOOD)
def test_what_loads_is_accepted(tmp_path: Path, text: str) -> None:
    assert (loads(tmp_path, text), is_accepted(text)) == (True, True)


@pytest.mark.parametrize("text", BAD)
def test_what_a_schema_can_say_is_refused_by_both(tmp_path: Path, text: str) -> None:
    assert (loads(tmp_path, text), is_accepted(text)) == (False, False)


@pytest.mark.parametrize("text", BEYOND_A_SCHEMA)
def test_load_alone_looks_closer(tmp_path: Path, text: str) -> None:
    assert (loads(tmp_path, text), is_accepted(text)) == (False, True)


def test_no_word_is_unknown_to_editors() -> None:
    """A validator passes over keywords that it does not know, so that a bound would not hold."""
    words = set()

    def walk(node: object) -> None:
        if isinstance(node, list):
            for item in node:
                walk(item)
        elif isinstance(node, dict):
            for word, value in node.items():
                words.add(word)
                if word in ("properties", "$defs"):
                    for below in value.values():
                        walk(below)
                elif word not in ("default", "enum", "const"):
                    walk(value)

    walk(SCHEMA)
    known = set(Draft202012Validator.VALIDATORS) | {
        "$schema",
        "$defs",
        "title",
        "description",
        "default",
    }
    assert words <= known


def test_defaults_are_written_as_people_do() -> None:
    cache = SCHEMA["$defs"]["CacheConfig"]["properties"]
    assert cache["max_size"]["default"] == "50GiB"
    assert SCHEMA["properties"]["listen"]["default"] == ["0.0.0.0:8000"]
    assert SCHEMA["$defs"]["UpstreamConfig"]["properties"]["poll_interval"]["default"] == "15m"
