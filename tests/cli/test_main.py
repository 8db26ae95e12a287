import importlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from omaha_mirror import __version__
from omaha_mirror.cli.exits import Exit, Failure
from omaha_mirror.cli.main import accept_go_flags, cli
from omaha_mirror.config import ConfigError, Problem


def standing_in(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    """A command that only raises takes another one's name."""

    def fail() -> None:
        raise error

    monkeypatch.setitem(cli.commands, name, click.Command(name, callback=fail))


def test_help_lists_every_command_and_imports_none_of_them() -> None:
    code = (
        "import sys\n"
        "from omaha_mirror.cli.main import main\n"
        "try: main()\n"
        "finally: print('IMPORTED', *sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    text, _, imported = done.stdout.partition("IMPORTED")
    listed = re.findall(r"^  ([a-z-]+)  ", text.partition("Commands:")[2], re.MULTILINE)
    assert listed == list(cli.commands)
    assert "...\n" not in text.partition("Commands:")[2]
    modules = set(imported.split())
    assert not modules & {f"omaha_mirror.cli.{work_of(command)[0]}" for command in leaves(cli)}
    assert not modules & {"pydantic", "yaml", "aiohttp", "lxml", "rich", "structlog"}


def leaves(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield from leaves(command) if isinstance(command, click.Group) else [command]


def work_of(command: click.Command) -> tuple[str, str]:
    """The module and the name of the function that a command calls."""
    module, _, name = command.callback.work.partition(":")  # type: ignore[union-attr]  # each command has a callback with work
    return module, name


@pytest.mark.parametrize("command", [*leaves(cli)], ids=lambda command: command.name)
def test_a_command_gives_its_work_each_parameter_that_it_takes(command: click.Command) -> None:
    module, name = work_of(command)
    function = getattr(importlib.import_module(f"omaha_mirror.cli.{module}"), name)
    assert set(signature(function).parameters) == {param.name for param in command.params}


def test_version_is_printed() -> None:
    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.output) == (0, f"omaha-mirror, version {__version__}\n")


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli, ["sevre"])
    assert result.exit_code == 2
    assert "No such command 'sevre'" in result.stderr


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (
            ConfigError((Problem("a.yaml", "it is wrong", key="log", line=1, column=2),)),
            Exit.BAD_CONFIG,
            "a.yaml:1:2: log: it is wrong",
        ),
        (Failure("it is gone", Exit.NOT_FOUND), Exit.NOT_FOUND, "Error: it is gone"),
        (
            FileNotFoundError(2, "No such file", "/f"),
            Exit.FAILURE,
            "Error: [Errno 2] No such file: '/f'",
        ),
    ],
    ids=["config", "failure", "disk"],
)
def test_an_error_of_any_command_is_a_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: Exit, said: str
) -> None:
    standing_in(monkeypatch, "demo", error)
    result = CliRunner().invoke(cli, ["demo"])
    assert (result.exit_code, result.stdout, result.stderr) == (status, "", f"{said}\n")


def test_a_defect_is_a_line_that_says_how_to_get_the_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    standing_in(monkeypatch, "demo", LookupError("a\x1b[31m\ndefect"))
    monkeypatch.setattr(sys, "argv", ["omaha-mirror", "demo"])
    result = CliRunner().invoke(cli, ["demo"])
    assert (result.exit_code, result.stdout) == (Exit.DEFECT, "")
    [line] = result.stderr.splitlines()
    assert "LookupError: a\ufffd[31m\ufffddefect" in line
    assert line.endswith("omaha-mirror --traceback demo")
    result = CliRunner().invoke(cli, ["--traceback", "demo"])
    assert result.exit_code == Exit.DEFECT
    assert result.stderr.startswith("Traceback (most recent call last):")


def test_ctrl_c_ends_a_command_with_130_and_no_word(tmp_path: Path) -> None:
    # The command reads its config from a pipe, so that it is certainly running when it is hit.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # What started this test may have let it ignore SIGINT, as shells do for jobs in background.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from omaha_mirror.cli.main import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "config", "check", "--config", str(pipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with pipe.open("wb"):
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout, stderr) == (130, b"", b"")


def test_a_reader_that_has_gone_away_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "omaha_mirror", "config", "show"],
        check=False,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (
            [
                "serve-package",
                "-package-file",
                "f",
                "-package-version=1.2",
                "-listen-address",
                ":1",
            ],
            [
                "serve-package",
                "--package-file",
                "f",
                "--package-version=1.2",
                "--listen-address",
                ":1",
            ],
        ),
        (["serve-package", "--package-file=a\nb"], ["serve-package", "--package-file=a\nb"]),
        (["serve-package", "-package-file=a\nb"], ["serve-package", "--package-file=a\nb"]),
        (["serve-package", "-h", "-package-files"], ["serve-package", "-h", "-package-files"]),
        (["serve-package", "--", "-package-file"], ["serve-package", "--", "-package-file"]),
        (["serve", "-package-file", "f"], ["serve", "-package-file", "f"]),
        ([], []),
    ],
)
def test_go_style_flags_are_read_for_serve_package_only(given: list[str], read: list[str]) -> None:
    assert accept_go_flags(given) == read


def test_go_style_flags_reach_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    @click.option("--package-file")
    def show(package_file: str) -> None:
        click.echo(package_file)

    monkeypatch.setitem(cli.commands, "serve-package", show)
    for before in ([], ["--traceback"]):
        result = CliRunner().invoke(cli, [*before, "serve-package", "-package-file=update.gz"])
        assert result.output == "update.gz\n"


def test_the_module_can_be_run() -> None:
    command = [sys.executable, "-m", "omaha_mirror", "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"omaha-mirror, version {__version__}\n"
