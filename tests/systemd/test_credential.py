"""Where the admin token is looked for."""

import errno
import os
from pathlib import Path

import pytest

from omaha_mirror.config import Config
from omaha_mirror.web.admin import token as admin_token
from tests.support.mirror import settings


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for the system's own store of credentials."""
    store = tmp_path / "credstore" / "omaha-mirror.admin-token"
    monkeypatch.setattr(admin_token, "CREDSTORE", store)
    return store


def config(directory: Path, **admin: str) -> Config:
    told = settings(directory, "http://127.0.0.1:1", admin=admin)
    return Config.model_validate(told, context=directory)


def put(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("secret\n")
    return path


def test_without_a_credential_the_token_is_in_the_state_directory(tmp_path: Path) -> None:
    expected = tmp_path / "state" / "admin-token"
    assert admin_token.place(config(tmp_path), {}) == expected
    assert admin_token.place(config(tmp_path), {"CREDENTIALS_DIRECTORY": "/nowhere"}) == expected


def test_a_credential_comes_before_the_state_directory(tmp_path: Path) -> None:
    given = put(tmp_path / "credentials" / "admin-token")
    environ = {"CREDENTIALS_DIRECTORY": str(given.parent)}
    assert admin_token.place(config(tmp_path), environ) == given
    assert admin_token.settle(config(tmp_path), environ).value == "secret"


def test_an_operators_shell_looks_where_the_credential_comes_from(
    tmp_path: Path, store: Path
) -> None:
    put(store)
    assert admin_token.place(config(tmp_path), {}) == store


def test_the_configured_file_comes_first(tmp_path: Path, store: Path) -> None:
    put(store)
    environ = {"CREDENTIALS_DIRECTORY": str(put(tmp_path / "credentials" / "admin-token").parent)}
    own = tmp_path / "own"
    assert admin_token.place(config(tmp_path, token_file=str(own)), environ) == own


def test_a_token_that_the_disk_does_not_take_is_made_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    configured = config(tmp_path, token_file=str(own))

    def full(_: int) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(admin_token, "sync", full)
        settled = admin_token.settle(configured, {})
        assert settled.value is None
        assert os.strerror(errno.ENOSPC) in settled.trouble
    assert admin_token.settle(configured, {}).value == own.read_text().strip()
