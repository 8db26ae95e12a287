"""The top of the command line: which commands there are, and how their errors end the process."""

import importlib
import re
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from omaha_mirror import __version__
from omaha_mirror.cli.exits import Exit
from omaha_mirror.observability.standard_error import take_over

COMMANDS = {
    "serve": ("omaha_mirror.cli.serve:serve", "Run the mirror."),
    "serve-package": (
        "omaha_mirror.cli.serve_package:serve_package",
        "Offer one package on disk to every machine that asks.",
    ),
    "check": ("omaha_mirror.cli.check:check", "Ask a mirror for an update, as a machine does."),
    "cache": ("omaha_mirror.cli.cache:cache", "Look at the cache and tidy it."),
    "fetch": ("omaha_mirror.cli.fetch:fetch", "Have a release in the cache before machines ask."),
    "export": ("omaha_mirror.cli.export:export", "Write a release into one file, to carry it."),
    "import": ("omaha_mirror.cli.import_:import_", "Take in what export wrote."),
    "sync": ("omaha_mirror.cli.sync:sync", "Ask upstream now."),
    "machines": ("omaha_mirror.cli.machines:machines", "List the machines that the mirror knows."),
    "explain": (
        "omaha_mirror.cli.explain:explain",
        "Tell why a machine did or did not update.",
    ),
    "inspect": (
        "omaha_mirror.cli.inspect:inspect",
        "Tell what is in an update payload, and who signed it.",
    ),
    "doctor": (
        "omaha_mirror.cli.doctor:doctor",
        "Check all that the mirror needs, and say what to do.",
    ),
    "client-config": (
        "omaha_mirror.cli.client_config:client_config",
        "Print what points a machine at the mirror.",
    ),
    "config": ("omaha_mirror.cli.config:config", "Check, show or describe the config."),
    "install": ("omaha_mirror.cli.install:install", "Set the mirror up as a systemd service."),
    "uninstall": ("omaha_mirror.cli.install:uninstall", "Take the systemd service away."),
    "completion": (
        "omaha_mirror.cli.completion:completion",
        "Print what makes a shell complete commands and options.",
    ),
    "man": ("omaha_mirror.cli.man:man", "Print the manual page."),
    "demo": ("omaha_mirror.cli.demo:demo", "Try a mirror with a made-up upstream and machines."),
    "simulate": ("omaha_mirror.cli.simulate:simulate", "Be a fleet: many machines that check in."),
}
"""Name -> where the command is (imported when it is called) and its line in the help."""

_GO_FLAG = re.compile(r"-(package-file|package-version|listen-address)(=.*)?", re.DOTALL)


def accept_go_flags(args: Sequence[str]) -> list[str]:
    """Write the long flags of `serve-package` with two dashes, where Go's style has one.

    go-omaha's command of that name is called with `-package-file F` or `-package-file=F`.
    """
    if args[:1] != ["serve-package"]:
        return list(args)
    end = args.index("--") if "--" in args else len(args)
    flags = [f"-{arg}" if _GO_FLAG.fullmatch(arg) else arg for arg in args[:end]]
    return [*flags, *args[end:]]


class Commands(click.Group):
    """Imports a command when it is called, so that `--help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """The names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002 (click's)
        """Import a command; None if there is none of that name."""
        command: click.Command | None = _import(COMMANDS[name][0]) if name in COMMANDS else None
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name from the table alone."""
        named = [
            CompletionItem(name, help=line)
            for name, (_, line) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return named + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (click's)
        """Write the help's list of commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, Go's style of long flags included."""
        return super().parse_args(ctx, accept_go_flags(args))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a bad config and Ctrl-C end it without a traceback."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(Exit.INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if not isinstance(error, _import("omaha_mirror.config:ConfigError")):
                raise
            click.echo(error, err=True)
            ctx.exit(Exit.BAD_CONFIG)


def _import(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="omaha-mirror")
def cli() -> None:
    """A site-local caching mirror for Flatcar / Container Linux updates."""


def main() -> None:
    """Run the command that the process was started with, and exit."""
    take_over()
    cli(prog_name="omaha-mirror")
