"""The commands that run a mirror, look after it, or set it up, as click declares them."""

from pathlib import Path

import click

from omaha_mirror.cli.options import (
    board_option,
    config_option,
    dry_run_option,
    json_option,
    log_level_options,
    quiet_option,
    work,
)


@click.command()
@config_option
@log_level_options
@work("serve:run")
def serve() -> None:
    """Run the mirror until SIGTERM or SIGINT."""


@click.command()
@click.option(
    "--package-file",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The update payload.",
)
@click.option("--package-version", "version", required=True, help="Its version.")
@click.option(
    "--listen-address",
    "listen",
    default=":8000",
    show_default=True,
    help="HOST:PORT; without HOST on every interface.",
)
@log_level_options
@work("serve_package:run")
def serve_package() -> None:
    """Offer one package on disk to every machine that asks.

    A machine with the same or a newer version gets no update. Application, board and track do not matter. The flags may be written with one dash.
    """


@click.group()
def cache() -> None:
    """Look at the cache and tidy it.

    The commands work whether the mirror runs or not. A KEY is a blob's digest, at least 6 digits of its beginning, or the end of the URL that it was downloaded from, such
    as 3815.2.1/flatcar_production_update.gz.
    """


@cache.command()
@config_option
@json_option
@work("cache:ls")
def ls() -> None:
    """List what is in the cache, last used first. It changes nothing."""


@cache.command()
@config_option
@click.argument("keys", nargs=-1, metavar="[KEY...]")
@json_option
@work("cache:verify")
def verify() -> None:
    """Read blobs again, all if none is named, and compare them with their digests.

    A blob that does not match is put aside; the mirror downloads it again for the next machine that requests it. The
    exit status is then 4.
    """


@cache.command()
@config_option
@dry_run_option
@json_option
@work("cache:gc")
def gc() -> None:
    """Evict down to max_size and min_free, and remove leftovers older than a week.

    Leftovers are incomplete downloads that no request continues, and blobs that did not match their digests.
    """


@cache.command()
@config_option
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@dry_run_option
@json_option
@work("cache:rm")
def rm() -> None:
    """Remove blobs, offered ones included: the mirror downloads them again on request.

    A blob that is being read is not removed. With an unknown KEY nothing is removed, and the exit status is 3.
    """


@click.command()
@click.argument("target", metavar="VERSION|TRACK")
@board_option
@config_option
@json_option
@work("upstream:fetch")
def fetch() -> None:
    """Download a release into the cache before machines ask.

    The running mirror downloads it, with the extra packages that this site uses. TRACK stands for the version that the
    track leads to now. With --json each report is a JSON object. The exit status is 3 if there is no such release, and 5
    if upstream cannot be reached.
    """


@click.command()
@click.option("--track", required=True, help="The track of the machines that take the release.")
@board_option
@click.option("--version", help="Lead to this version. [default: where the track leads now]")
@click.option(
    "--oem", "oems", multiple=True, metavar="ID", help="Add the package of this OEM; repeatable."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True, dir_okay=False),
    required=True,
    metavar="FILE",
    help="The file to write; - for standard output.",
)
@click.option("--split", "size", metavar="SIZE", help="Write FILE.000, FILE.001 ... of this size.")
@config_option
@work("export:run")
def export() -> None:
    """Write a release into one file, for a mirror without a line.

    The file is a tar of the release, all releases that machines must install before it, and their packages: all system
    extensions, and the packages of the OEMs in use here. A running mirror first downloads what is missing. Until the
    last byte is written and verified, the file is FILE.partial; the same command continues an interrupted export. A
    FILE with other content is left alone, and a damaged one is removed; the exit status is then 4. `omaha-mirror import`
    reads FILE.
    """


@click.command("import")
@click.argument(
    "sources",
    nargs=-1,
    required=True,
    metavar="FILE...|DIR|-",
    type=click.Path(path_type=Path, allow_dash=True),
)
@click.option("--track", help="Of a DIR: the track that offers the release.")
@board_option
@click.option("--version", help="Of a DIR with a payload: the version that it updates to.")
@config_option
@json_option
@work("import_:run")
def import_() -> None:
    """Import a release that export wrote.

    The mirror then offers it to machines without asking upstream. FILE is what `export` wrote; the FILEs of a split
    export are named in order, or by the name that was given to `export`. DIR is such a bundle unpacked, or holds
    update.gz (with --track and --version; oem-*.gz and flatcar-*.gz are imported too), or what `updateservicectl package
    download` saved (with --track).

    Nothing changes unless all of it is right: a source that is damaged, incomplete, or unsigned although keys are
    configured is refused, and the exit status is 4. Importing the same release again does no harm.
    """


@click.command()
@click.argument("track", required=False)
@config_option
@json_option
@work("upstream:sync")
def sync() -> None:
    """Let the running mirror ask upstream now.

    It asks about TRACK, or about all tracks that it follows. The exit status is 3 if it does not follow TRACK, and 5 if
    upstream gives no valid answer.
    """


@click.command()
@click.option(
    "--search", default="", metavar="TEXT", help="Part of a machine's id, alias or address."
)
@click.option("--state", metavar="STATE", help='Such as error, complete or "on hold".')
@click.option("--track", metavar="NAME", help="The track of the machines.")
@click.option("--version", metavar="VERSION", help="The version that the machines run.")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, made safe for spreadsheets.")
@config_option
@work("machines:run")
def machines() -> None:
    """List the machines that the running mirror knows.

    The list has the update state of each machine.
    """


@click.command()
@click.argument("machine", required=False)
@click.option(
    "--request",
    "request_path",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Explain what the mirror would answer to this Omaha request; - is standard input.",
)
@click.option(
    "--upstream",
    "ask_upstream",
    is_flag=True,
    help="With --request: ask upstream too, as a machine of the mirror's own, and print the difference.",
)
@json_option
@config_option
@work("explain:run")
def explain() -> None:
    """Explain why a machine did or did not update.

    Prints what MACHINE asked, what the mirror answered, the reason, and what would change the answer. MACHINE is its id,
    the beginning of its id, or its alias. With --request the policy in force judges a request from a file, and nothing is
    recorded.

    The exit status is 3 if there is no such machine.
    """


@click.command()
@config_option
@json_option
@work("doctor:run")
def doctor() -> None:
    """Check all that the mirror needs, and print what to do.

    That is the config, disk, addresses, upstream, clock, and the health of a running mirror. Each check prints a line: ok,
    warn or fail, and what to do. The command changes nothing. Run it as the mirror's user, or as root. The exit status is
    1 if something is wrong here, 5 if only upstream has a fault, and 78 if the config has one.
    """


@click.group()
def config() -> None:
    """Check, show or describe the config."""


@config.command()
@config_option
@quiet_option
@work("config:check")
def check() -> None:
    """Print whether the config is valid, and what the mirror will do with it.

    All errors are printed, each with its place in the file; the exit status is then 78.
    """


@config.command()
@config_option
@click.argument("pid", type=click.IntRange(min=1))
@work("config:reload")
def reload() -> None:
    """Let the running mirror with this process id apply the config, and print whether it can.

    A broken config changes nothing in the mirror, which reports it on /readyz; the exit status is then 78.
    `systemctl reload omaha-mirror` runs this command.
    """


@config.command()
@config_option
@json_option
@work("config:show")
def show() -> None:
    """Print the config in force, defaults included, as a config file; passwords are masked.

    Comments at the top name the keys that environment variables set.
    """


@config.command()
@work("config:schema")
def schema() -> None:
    """Print the JSON Schema of the config file, for editors."""


prefix_option = click.option(
    "--prefix",
    "root",
    default="/",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    metavar="DIR",
    help="Root directory of the system to install into.  [default: /]",
)


@click.command()
@prefix_option
@dry_run_option
@work("install:install")
def install() -> None:
    """Set the mirror up as a systemd service, or update it.

    Writes the units and, if there is none, a config. To change a unit use `systemctl edit`: the files themselves are
    replaced at the next install.
    """


@click.command()
@prefix_option
@dry_run_option
@click.option("--purge", is_flag=True, help="Remove the config, the cache and the state too.")
@work("install:uninstall")
def uninstall() -> None:
    """Stop the systemd service and remove its units.

    The cache, the state and a changed config stay, unless --purge is given; directories that the config names instead of
    the default ones always do.
    """


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@work("man:completion")
def completion() -> None:
    """Print the script that completes commands in a shell.

    Put it where the shell looks, under the name that it looks for:
    /etc/bash_completion.d/omaha-mirror for bash, /usr/local/share/zsh/site-functions/_omaha-mirror
    for zsh, ~/.config/fish/completions/omaha-mirror.fish for fish.
    """


@click.command()
@work("man:man")
def man() -> None:
    """Print the manual page, as `man -l` reads it."""
