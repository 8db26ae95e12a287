import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import BaseModel

from omaha_mirror.config import Config, Follow, Hold, Pin, Relay, load

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
ENVIRON = {"CACHE_DIRECTORY": "/var/cache/omaha-mirror", "STATE_DIRECTORY": "/var/lib/omaha-mirror"}
# A setting is a # and the line as it would be, indented by an even number of spaces; prose is
# one space away from its #, and a longer example five.
SETTING = re.compile(r"^#((?:  )*[a-z_]+:.*)$", re.MULTILINE)
LONGER_EXAMPLE = re.compile(r"^#     ((?! *omaha-mirror).*)$", re.MULTILINE)


def uncommented() -> str:
    return "\n".join(SETTING.findall(EXAMPLE.read_text()))


def keys(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*above, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, (*above, name))


def keys_in(data: dict[str, object], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in data.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from keys_in(value, (*above, name))


def test_the_example_as_it_is_changes_nothing() -> None:
    assert load(EXAMPLE, ENVIRON) == load(None, ENVIRON)


def test_the_example_shows_the_default_of_every_key_in_the_order_of_the_model(
    tmp_path: Path,
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(uncommented())
    assert load(path, {}) == load(None, ENVIRON)
    assert list(keys_in(yaml.safe_load(uncommented()))) == list(keys(Config))


def test_the_tracks_of_the_example_can_be_used_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(LONGER_EXAMPLE.findall(EXAMPLE.read_text())))
    assert load(path, ENVIRON).tracks == {
        "lts": Hold(),
        "edge": Pin(version="4230.2.1"),
        "canary": Pin(version="4230.2.1", packages=("oem-azure.gz",)),
        "beta": Relay(),
        "prod": Follow(delay=48 * 3600.0, ramp=24 * 3600.0, max_version="4300.0.0"),
    }
