"""README and config.example.yaml stay true."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import yaml

from omaha_mirror.catalog import BOARDS
from omaha_mirror.cli.exits import Exit
from omaha_mirror.cli.main import cli
from omaha_mirror.config import Config, load
from tests.faults.table import ROWS
from tests.test_layers import LAYERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def leaves(group: click.Group, prefix: str) -> list[str]:
    context = click.Context(group)
    found = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        path = f"{prefix} {name}"
        found += leaves(command, path) if isinstance(command, click.Group) else [path]
    return found


def test_every_command_is_in_the_readme_and_no_other() -> None:
    named = re.findall(r"^\| `(omaha-mirror [a-z- ]+)` \|", README, re.M)
    assert sorted(named) == sorted(leaves(cli, "omaha-mirror"))


def test_the_readmes_config_loads(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.S)
    path = tmp_path / "config.yaml"
    path.write_text(text)
    config = load(path, {"HOME": str(tmp_path)})
    assert set(config.tracks) == set(yaml.safe_load(text)["tracks"])


def test_the_readmes_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    named = set(re.findall(r"\bmake ([a-z-]+)(?: |`|$)", README, re.M))
    assert {"run", "test", "demo"} <= named <= set(targets)


def test_the_readmes_exit_codes_are_the_programs() -> None:
    line = next(line for line in README.splitlines() if line.startswith("Exit codes:"))
    named = {int(code) for code in re.findall(r"\b(\d+) [a-z]", line)}
    assert named == {int(code) for code in Exit} - {Exit.INTERRUPTED}


def test_the_boards_are_those_of_the_release_servers_layout() -> None:
    assert BOARDS == ("amd64-usr", "arm64-usr")


@pytest.mark.parametrize("name", sorted(Config.model_fields))
def test_every_section_is_in_the_example(name: str) -> None:
    assert re.search(rf"^#?{name}:", (ROOT / "config.example.yaml").read_text(), re.M)


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_between_the_documents_lead_somewhere(path: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / path).read_text()):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_map_has_the_layers_and_modules_that_there_are() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert " ".join(LAYERS.split()) in " ".join(text.split())
    map_ = text.partition("## Where things are")[2].partition("\n## ")[0]
    for path in re.findall(r"[a-z_]+(?:/[a-z_]+)*(?:\.py|/)(?![a-z_])", map_):
        assert (ROOT / "omaha_mirror" / path).exists() or (ROOT / path).exists(), path


def test_the_table_of_faults_is_the_one_that_is_tested() -> None:
    _, _, after = README.partition("| fault upstream |")
    named = re.findall(r"^\| ([^|]+) \|", after.partition("\n## ")[0], re.M)
    assert [name for name in named if name != "---"] == [row.name for row in ROWS]


def test_the_table_of_faults_has_no_wrong_byte_of_ours() -> None:
    _, _, after = README.partition("| fault upstream |")
    for line in after.partition("\n## ")[0].splitlines()[2:]:
        if line.startswith("| "):
            assert not re.search("WRONG|SHORT", " ".join(line.split("|")[2:6])), line
