"""Public keys in the config: read with it, and refused with their place where they cannot be used."""

from pathlib import Path

import pytest

from omaha_mirror.config import Changes, Config, ConfigError, changes, load
from omaha_mirror.config.changes import adopted
from tests.payload.build import pem

ENVIRON = {"HOME": "/h"}


def config(folder: Path, text: str) -> Config:
    path = folder / "config.yaml"
    path.write_text(text)
    return load(path, ENVIRON)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Has two keys, and files that are none."""
    for name in ("vendor", "another"):
        (tmp_path / f"{name}.pem").write_bytes(pem(name))
    (tmp_path / "two.pem").write_bytes(pem("vendor") + pem("another"))
    (tmp_path / "text").write_text("no key\n")
    (tmp_path / "private.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    return tmp_path


def test_there_is_none_unless_configured(tmp_path: Path) -> None:
    assert config(tmp_path, "").upstream.key_files == {}


def test_keys_are_read_from_the_folder_of_the_config(folder: Path) -> None:
    found = config(folder, f"upstream: {{public_keys: [vendor.pem, {folder}/another.pem]}}")
    assert found.upstream.key_files == {
        str(folder / "vendor.pem"): pem("vendor"),
        str(folder / "another.pem"): pem("another"),
    }
    shown = found.model_dump(mode="json")["upstream"]["public_keys"]
    assert shown == [*found.upstream.key_files]


@pytest.mark.parametrize(
    ("keys", "column", "words"),
    [
        ("[none.pem]", 26, "none.pem: No such file"),
        ("[vendor.pem, .]", 38, "is no regular file"),
        ("[vendor.pem, private.pem]", 38, "private.pem is a private key: give its public one"),
        ("[two.pem]", 26, "more than one PEM block: put each key in a file of its own"),
        ("[text]", 26, "text is no PEM public key"),
        ("[~/vendor.pem]", 26, "~ is not expanded here"),
        ("[5]", 26, "YAML reads 5 as a number"),
        ("vendor.pem", 25, "must be a list"),
        ("[vendor.pem, ./vendor.pem]", 25, "is in the list twice"),
    ],
)
def test_what_is_no_public_key_is_told_with_its_place(
    folder: Path, keys: str, column: int, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config(folder, f"upstream: {{public_keys: {keys}}}")
    [problem] = caught.value.problems
    assert (problem.line, problem.column) == (1, column)
    assert problem.key.startswith("upstream.public_keys")
    assert words in problem.message


def test_a_key_that_is_replaced_in_its_file_is_applied_at_once(folder: Path) -> None:
    text = "upstream: {public_keys: [vendor.pem]}"
    old = config(folder, text)
    assert changes(old, config(folder, text)) == Changes()
    (folder / "vendor.pem").write_bytes(pem("another"))
    new = config(folder, text)
    assert changes(old, new) == Changes(applied=("upstream.public_keys",))
    assert [*adopted(old, new).upstream.key_files.values()] == [pem("another")]
