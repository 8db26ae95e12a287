"""The program: its commands, and the one place where errors become exit codes."""

from __future__ import annotations

import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from omaha_mirror import __version__
from omaha_mirror.cli import client_commands, mirror_commands
from omaha_mirror.cli.exits import Exit, Failure
from omaha_mirror.observability.standard_error import take_over

COMMANDS = (
    mirror_commands.serve,
    mirror_commands.serve_package,
    client_commands.check,
    mirror_commands.cache,
    mirror_commands.fetch,
    mirror_commands.export,
    mirror_commands.import_,
    mirror_commands.sync,
    mirror_commands.machines,
    mirror_commands.explain,
    client_commands.inspect,
    mirror_commands.doctor,
    client_commands.client_config,
    mirror_commands.config,
    mirror_commands.install,
    mirror_commands.uninstall,
    mirror_commands.completion,
    mirror_commands.man,
    client_commands.demo,
    client_commands.simulate,
)
"""In the order of the help. A declaration is light; what the command runs is imported when it is called."""

_GO_FLAG = re.compile(r"-(package-file|package-version|listen-address)(=.*)?", re.DOTALL)


def accept_go_flags(args: Sequence[str]) -> list[str]:
    """Write the long flags of `serve-package` with two dashes, where Go's style has one.

    go-omaha's command of that name is called with `-package-file F` or `-package-file=F`.
    """
    if next((arg for arg in args if not arg.startswith("-")), None) != "serve-package":
        return list(args)
    end = args.index("--") if "--" in args else len(args)
    flags = [f"-{arg}" if _GO_FLAG.fullmatch(arg) else arg for arg in args[:end]]
    return [*flags, *args[end:]]


class Program(click.Group):
    """Ends each command with an exit code, never with a traceback that was not asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """The names, in the order of the help."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, Go's style of long flags included."""
        return super().parse_args(ctx, accept_go_flags(args))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. click handles its own errors, and a standard output that is closed."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            message, exit_ = ending(error)
            if exit_ is Exit.DEFECT and ctx.params["traceback"]:
                message = "".join(traceback.format_exception(error)).rstrip()
            if message:
                click.echo(message, err=True)
            ctx.exit(exit_)


def ending(error: BaseException) -> tuple[str, Exit]:
    """What a command prints about the error that ends it, and its exit code."""
    match error:
        case KeyboardInterrupt():
            return "", Exit.INTERRUPTED
        case Failure():
            return f"{error.prefix}{error}", error.exit
        case OSError():
            return f"Error: {error}", Exit.FAILURE
    from omaha_mirror.config import ConfigError
    from omaha_mirror.text import printable

    if isinstance(error, ConfigError):
        return str(error), Exit.BAD_CONFIG
    what = printable(f"{type(error).__name__}: {error}", 300)
    again = shlex.join(["omaha-mirror", "--traceback", *sys.argv[1:]])
    return f"Error: a defect of omaha-mirror: {what}. To see where: {again}", Exit.DEFECT


@click.command(
    cls=Program,
    commands={str(command.name): command for command in COMMANDS},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--traceback", is_flag=True, help="Print the traceback of a defect that ends the command."
)
@click.version_option(__version__, prog_name="omaha-mirror")
def cli(traceback: bool) -> None:
    """A site-local caching mirror for Flatcar / Container Linux updates."""


def main() -> None:
    """Run the command that the process was started with, and exit."""
    take_over()
    cli(prog_name="omaha-mirror")
