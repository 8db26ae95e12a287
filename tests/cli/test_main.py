import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from omaha_mirror import __version__
from omaha_mirror.cli.main import COMMANDS, accept_go_flags, cli
from omaha_mirror.config import ConfigError, Problem


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that stands in for the one of the `demo` command."""
    module = ModuleType("omaha_mirror.cli.demo")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


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
    assert listed == list(COMMANDS)
    modules = set(imported.split())
    assert not modules & {where.partition(":")[0] for where, _ in COMMANDS.values()}
    assert not modules & {"pydantic", "yaml", "aiohttp", "lxml", "rich", "structlog"}


@pytest.mark.parametrize("name", ["config", "client-config"])
def test_a_command_is_where_the_table_says_under_its_name(name: str) -> None:
    module, _, attribute = COMMANDS[name][0].partition(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name


def test_version_is_printed() -> None:
    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.output) == (0, f"omaha-mirror, version {__version__}\n")


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli, ["sevre"])
    assert result.exit_code == 2
    assert "No such command 'sevre'" in result.stderr


def test_a_bad_config_ends_any_command_with_78_and_no_traceback(demo: ModuleType) -> None:
    @click.command()
    def fail() -> None:
        raise ConfigError((Problem("a.yaml", "it is wrong", key="log", line=1, column=2),))

    demo.demo = fail  # type: ignore[attr-defined]
    result = CliRunner().invoke(cli, ["demo"])
    assert (result.exit_code, result.stdout) == (78, "")
    assert result.stderr == "a.yaml:1:2: log: it is wrong\n"


def test_another_error_is_not_swallowed(demo: ModuleType) -> None:
    @click.command()
    def fail() -> None:
        raise LookupError("a defect")

    demo.demo = fail  # type: ignore[attr-defined]
    assert isinstance(CliRunner().invoke(cli, ["demo"]).exception, LookupError)


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

    module = ModuleType("omaha_mirror.cli.serve_package")
    module.serve_package = show  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    result = CliRunner().invoke(cli, ["serve-package", "-package-file=update.gz"])
    assert result.output == "update.gz\n"


def test_the_module_can_be_run() -> None:
    command = [sys.executable, "-m", "omaha_mirror", "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"omaha-mirror, version {__version__}\n"
