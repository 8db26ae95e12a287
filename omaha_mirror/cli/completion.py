"""`omaha-mirror completion`: what makes a shell complete commands, options and file names."""

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

PROGRAM, VARIABLE = "omaha-mirror", "_OMAHA_MIRROR_COMPLETE"
"""The shell calls the program with the variable set, and click answers it."""
SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete commands and options.

    Put it where the shell looks, under the name that it looks for:
    /etc/bash_completion.d/omaha-mirror for bash, /usr/local/share/zsh/site-functions/_omaha-mirror
    for zsh, ~/.config/fish/completions/omaha-mirror.fish for fish.
    """
    click.echo(SHELLS[shell](ctx.find_root().command, {}, PROGRAM, VARIABLE).source())
