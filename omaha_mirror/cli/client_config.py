"""`omaha-mirror client-config`: what points a machine at the mirror."""

import os
import re
from pathlib import Path

import click

from omaha_mirror.cli.options import config_option

_UPDATE_CONF = """\
GROUP={group}
SERVER={server}
"""

_BUTANE = """\
variant: flatcar
version: 1.0.0
storage:
  files:
    - path: /etc/flatcar/update.conf
      overwrite: true
      mode: 0644
      contents:
        inline: |
          GROUP={group}
          SERVER={server}
"""

_SHELL = """\
#!/bin/sh
# Points this machine at the update mirror {server}
# Run it as root, as often as you like: other settings are kept, and a machine that is
# already set up is left alone.
set -eu
umask 022
conf=/etc/flatcar/update.conf
mkdir -p "${{conf%/*}}"
touch "$conf"
cp -p "$conf" "$conf.new"
{{
    grep -Ev '^[[:space:]]*(GROUP|SERVER)=' "$conf" || [ $? -eq 1 ]
    echo 'GROUP={group}'
    echo 'SERVER={server}'
}} >"$conf.new"
if cmp -s "$conf.new" "$conf"; then
    rm "$conf.new"
else
    mv "$conf.new" "$conf"
    systemctl restart update-engine.service
fi
"""

_FORMATS = {"update.conf": _UPDATE_CONF, "butane": _BUTANE, "shell": _SHELL}


def update_url(server: str) -> str:
    """The SERVER of update.conf for a mirror's URL: its origin and `/v1/update/`.

    update_engine posts to the path as it is written (`update_engine/omaha_request_params.cc:55`).

    Raises:
        ValueError: It is not the URL of a mirror; the message says what must change.
    """
    from omaha_mirror.config import urls

    return urls.origin(server.rstrip("/").removesuffix("/v1/update")) + "/v1/update/"


@click.command("client-config")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(_FORMATS)),
    default="update.conf",
    show_default=True,
    help="A file for /etc/flatcar, a Butane config for new machines, or a script for running ones.",
)
@click.option("--server", metavar="URL", help="The mirror as machines reach it.")
@click.option("--group", default="stable", show_default=True, help="The track to follow.")
@config_option
def client_config(form: str, server: str | None, group: str, config_path: Path | None) -> None:
    """Print what points a machine at the mirror.

    The mirror's URL is --server, or else public_url of the config.
    """
    from omaha_mirror.config import load

    server = server or load(config_path, os.environ).public_url
    if server is None:
        raise click.UsageError(
            "The mirror's URL is not known: give it with --server http://HOST:8000, "
            "or set public_url in the config."
        )
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", group, re.ASCII):
        raise click.BadParameter(
            f"{group!r} is not a track: use letters, digits, '.', '_' and '-'.",
            param_hint="--group",
        )
    try:
        url = update_url(server)
    except ValueError as error:
        raise click.BadParameter(f"{server!r}: {error}", param_hint="--server") from None
    click.echo(_FORMATS[form].format(group=group, server=url), nl=False)
