"""How the command line treats people: quick help, completion, a manual page, no unwanted colour."""

import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from omaha_mirror.cli.exits import MEANINGS, Exit
from omaha_mirror.cli.main import cli
from omaha_mirror.cli.options import log_level_options
from omaha_mirror.config.environment import VARIABLES

HEAVY = {"aiohttp", "cryptography", "jinja2", "lxml", "pydantic", "rich", "sqlalchemy", "structlog"}
"""Each of these costs more time than the help may take."""


def commands(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words that lead to each group and command."""
    yield above
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        else:
            yield (*above, name)


def run(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        args,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **variables},
    )


@pytest.mark.parametrize("name", cli.list_commands(click.Context(cli)))
def test_help_imports_nothing_that_takes_long(name: str) -> None:
    code = (
        "import sys\n"
        "from omaha_mirror.cli.main import main\n"
        "try: main()\n"
        "finally: print('IMPORTED', *sys.modules)\n"
    )
    done = run(sys.executable, "-c", code, name, "--help")
    text, _, imported = done.stdout.partition("IMPORTED")
    assert text.startswith(f"Usage: omaha-mirror {name} ")
    assert set(imported.split()) & HEAVY == set()


def test_every_option_says_what_it_is_for() -> None:
    page = CliRunner().invoke(cli, ["man"]).output
    assert not re.search(r"^\.TP\n.*\n(\.|$)", page, re.M)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder with the program in it, for shells that look it up."""
    path = tmp_path / "bin" / "omaha-mirror"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -m omaha_mirror "$@"\n')
    path.chmod(0o755)
    return path.parent


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (["omaha-mirror", "comp"], ["completion"]),
        (["omaha-mirror", "config", ""], ["check", "reload", "schema", "show"]),
        (["omaha-mirror", "config", "check", "--qu"], ["--quiet"]),
        (["omaha-mirror", "completion", "b"], ["bash"]),
    ],
    ids=" ".join,
)
def test_bash_completes(program: Path, line: list[str], found: list[str]) -> None:
    script = run(sys.executable, "-m", "omaha_mirror", "completion", "bash").stdout
    ask = (
        f"COMP_WORDS=({' '.join(word or chr(39) * 2 for word in line)}); COMP_CWORD={len(line) - 1}"
    )
    code = f'{script}\n{ask}\n_omaha_mirror_completion omaha-mirror\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
    path = f"{program}:{os.environ['PATH']}"
    assert run("bash", "--norc", "-c", code, PATH=path).stdout.split() == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_script_calls_the_program_as_click_answers_it(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert f"_OMAHA_MIRROR_COMPLETE={shell}_complete" in result.stdout


def test_names_are_completed_without_importing_the_commands() -> None:
    code = (
        "import sys\n"
        "from omaha_mirror.cli.main import main\n"
        "try: main()\n"
        "finally: print('IMPORTED', *sys.modules)\n"
    )
    done = run(
        *(sys.executable, "-c", code),
        _OMAHA_MIRROR_COMPLETE="bash_complete",
        COMP_WORDS="omaha-mirror ",
        COMP_CWORD="1",
    )
    names, _, imported = done.stdout.partition("IMPORTED")
    assert names.split() == [f"plain,{name}" for name in cli.list_commands(click.Context(cli))]
    assert "omaha_mirror.cli.serve" not in imported.split()


@pytest.fixture(scope="module")
def page() -> str:
    return CliRunner().invoke(cli, ["man"]).stdout


def plain(page: str) -> str:
    """The page's words without its marks."""
    return re.sub(r"\\f[BR]|\\&", "", page).replace(r"\-", "-").replace(r"\e", "\\")


def test_the_manual_page_has_every_command_with_its_options(page: str) -> None:
    sections = dict(
        re.findall(
            r"^\.SS omaha-mirror ([a-z -]+?)(?: [\[A-Z].*)?\n((?:(?!\.S).*\n)*)", plain(page), re.M
        )
    )
    whole = cli.make_context("omaha-mirror", [], resilient_parsing=True)
    groups = {words[:-1] for words in commands(cli) if len(words) > 1}
    for words in set(commands(cli)) - groups - {()}:
        command: click.Command | None = cli
        for word in words:
            assert isinstance(command, click.Group)
            command = command.get_command(whole, word)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.opts[-1] in sections[" ".join(words)]


def test_the_manual_page_has_every_exit_status_and_variable(page: str) -> None:
    assert set(MEANINGS) == set(Exit)
    told = re.findall(r"^\.TP\n(.+)$", plain(page), re.M)
    assert {str(int(code)) for code in Exit} <= set(told)
    assert set(VARIABLES) <= set(told)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_no_complaint_about_the_manual_page(tmp_path: Path, page: str) -> None:
    path = tmp_path / "omaha-mirror.1"
    path.write_text(page)
    done = run("groff", "-man", "-ww", "-Tascii", "-P-cbu", str(path))
    assert done.stderr == ""
    assert "omaha-mirror - a site-local caching mirror" in " ".join(done.stdout.split())
    assert "--config FILE" in done.stdout


@pytest.mark.parametrize(
    ("args", "level"),
    [([], "None"), (["-v"], "debug"), (["-q"], "error"), (["--verbose", "--quiet"], "error")],
)
def test_the_log_level_is_the_last_one_named(args: list[str], level: str) -> None:
    @click.command()
    @log_level_options
    def command(log_level: str | None) -> None:
        click.echo(str(log_level))

    assert CliRunner().invoke(command, args).output == f"{level}\n"


def on_a_terminal(code: str, **variables: str) -> str:
    """What Python code prints where it finds a terminal that can show colours."""
    ours, theirs = pty.openpty()
    environ = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            env=environ | {"TERM": "xterm-256color"} | variables,
        )
        os.close(theirs)
        said = b""
        try:
            while part := terminal.read(4096):
                said += part
        except OSError:
            pass  # a terminal that nobody else has any more ends so
        assert process.wait(60) == 0, said
    return said.decode()


COLOUR = re.compile(r"\x1b\[([0-9]+;)*(3[0-8]|4[0-8]|9[0-7]|10[0-7])(;[0-9]+)*m")
LOG = (
    "import structlog\n"
    "from omaha_mirror.observability.telemetry import set_up_logging\n"
    "set_up_logging('auto', 'info')\n"
    "structlog.get_logger('x').warning('said', what=1)\n"
)
PROGRESS = (
    "from omaha_mirror.cli.terminal import Bar\n"
    "with Bar() as bar:\n"
    "    bar.began('update.gz', 100, '')\n"
    "    bar.received(50)\n"
)


@pytest.mark.parametrize("code", [LOG, PROGRESS], ids=["log", "progress"])
def test_no_color_is_obeyed(code: str) -> None:
    assert COLOUR.search(on_a_terminal(code))
    assert not COLOUR.search(on_a_terminal(code, NO_COLOR="1"))


@pytest.mark.parametrize("code", [LOG, PROGRESS], ids=["log", "progress"])
def test_an_empty_no_color_says_nothing(code: str) -> None:
    assert COLOUR.search(on_a_terminal(code, NO_COLOR=""))
