"""`inspect`: what a person and a script are told of a payload."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from omaha_mirror.cli.main import cli
from tests.payload.build import DATA, build, flipped, pem, private_key

VENDOR = str(DATA / "update-payload-key.pub.pem")
OTHER = str(DATA / "wrong-key.pub.pem")
UPDATE = DATA / "3815.2.1" / "update.gz"
OEM = DATA / "3815.2.1" / "oem-azure.gz"
DELTA = DATA / "delta" / "update.gz"


def run(file: Path, *args: str) -> Result:
    return CliRunner().invoke(cli, ["inspect", str(file), *args])


def inspected(file: Path, *args: str, status: int = 0) -> Any:
    result = run(file, *args, "--json")
    assert result.exit_code == status
    return json.loads(result.stdout)


def test_a_full_payload_is_told_in_full() -> None:
    data = inspected(UPDATE, "--key", VENDOR)
    assert (data["kind"], data["size"]) == ("full", 3981289)
    assert data["sha256"] == "43936185445721bd5132ccad7651c0d300eef4fd90e021ea252111ec2692986b"
    assert data["sha256_base64"] == "Q5NhhURXIb1RMsytdlHA0wDu9P2Q4CHqJSER7CaSmGs="
    assert data["sha1_base64"] == "H4Gh6grSjZ41zpV+DQBwJC/b/vQ="
    partition, kernel = data["sections"]
    assert partition["operations"] == {"REPLACE_BZ": 16}
    assert (partition["old"], partition["new"]["size"]) == (None, 16777216)
    assert (kernel["name"], kernel["new"]["size"]) == ("KERNEL", 340000)
    assert partition["data_size"] + kernel["data_size"] == 3979912
    [signature] = data["signatures"]
    assert (signature["version"], signature["key"]["file"]) == (2, VENDOR)
    assert (data["valid_for_update_engine"], data["valid_for_ue_rs"]) == (True, True)
    assert data["wrong"] == []


def test_a_delta_is_told_from_a_full_payload() -> None:
    data = inspected(DELTA)
    assert data["kind"] == "delta"
    assert data["sections"][0]["operations"] == {
        "BSDIFF": 5,
        "REPLACE": 3,
        "REPLACE_BZ": 3,
        "MOVE": 2,
    }
    assert data["sections"][0]["old"]["sha256"].startswith("aad8a8fe4e10")


def test_without_a_key_nothing_is_said_of_validity() -> None:
    data = inspected(OEM)
    assert data["signatures"] == [{"version": 2, "key": None}]
    assert (data["valid_for_update_engine"], data["valid_for_ue_rs"]) == (None, None)
    assert "not checked" in run(OEM).stdout


def test_the_wrong_key_is_status_4_and_one_right_key_among_several_is_enough() -> None:
    data = inspected(OEM, "--key", OTHER, status=4)
    assert (data["valid_for_update_engine"], data["valid_for_ue_rs"]) == (False, False)
    assert "no signature that update_engine looks at" in run(OEM, "--key", OTHER).stderr
    assert inspected(OEM, "--key", OTHER, "--key", VENDOR)["valid_for_update_engine"]


def test_an_unsigned_payload_is_wrong_only_where_a_key_is_given(tmp_path: Path) -> None:
    file = tmp_path / "unsigned.gz"
    file.write_bytes(build([b"data"]))
    assert run(file).exit_code == 0
    assert "not signed" in run(file).stdout
    result = run(file, "--key", VENDOR)
    assert (result.exit_code, result.stderr) == (4, "Error: it is not signed\n")


def test_the_production_layout_is_understood_as_each_client_does(tmp_path: Path) -> None:
    """Two signatures: of version 1 by one key, of version 2 by another."""
    file, old, new = (tmp_path / name for name in ("twosig.gz", "old.pem", "new.pem"))
    old.write_bytes(pem("old"))
    new.write_bytes(pem("new"))
    file.write_bytes(build([b"data"], signers=[(1, private_key("old")), (2, private_key("new"))]))
    assert inspected(file, "--key", str(new))["valid_for_ue_rs"]
    data = inspected(file, "--key", str(old), status=4)
    assert (data["valid_for_update_engine"], data["valid_for_ue_rs"]) == (False, True)
    people = run(file, "--key", str(old)).stdout
    assert "update_engine refuses" in people
    assert "ue-rs takes" in people


def test_wrong_data_is_status_4_with_its_place_and_needs_no_key(tmp_path: Path) -> None:
    file = tmp_path / "damaged.gz"
    file.write_bytes(flipped(OEM.read_bytes(), 5000))
    result = run(file)
    assert result.exit_code == 4
    assert "bytes 147 to 703344 does not have the manifest's digest" in result.stderr
    assert inspected(file, status=4)["wrong"] == [{"start": 147, "stop": 703344}]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not an update payload"),
        (b"\x1f\x8b\x08\0", "not an update payload"),
        (OEM.read_bytes()[:-1], "at byte"),
    ],
)
def test_what_is_no_payload_is_status_1_in_one_line(
    tmp_path: Path, data: bytes, words: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(data)
    result = run(file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_file_that_cannot_be_read_is_status_1(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for file, words in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "no regular file"),
        (tmp_path / "fifo", "no regular file"),
    ):
        result = run(file)
        assert result.exit_code == 1
        assert words in result.stderr


def test_a_bad_key_is_a_mistake_of_usage(tmp_path: Path) -> None:
    result = run(OEM, "--key", str(tmp_path / "none.pem"))
    assert result.exit_code == 2
    assert "none.pem cannot be read" in result.stderr


def test_people_are_told_the_same() -> None:
    out = run(UPDATE, "--key", VENDOR).stdout
    for words in (
        "full payload, 4.0 MB (3981289 bytes)",
        "43936185445721bd5132ccad7651c0d300eef4fd90e021ea252111ec2692986b",
        "Q5NhhURXIb1RMsytdlHA0wDu9P2Q4CHqJSER7CaSmGs=",
        "16 REPLACE_BZ",
        "KERNEL",
        "bbfa2bd406b18888",
        "update_engine takes",
    ):
        assert words in out
