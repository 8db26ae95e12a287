"""`omaha-mirror client-config`: print the settings that point a machine at the mirror."""

import os
from pathlib import Path

import click

from omaha_mirror.cli.options import update_url
from omaha_mirror.config import load

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


def run(form: str, server: str | None, group: str, config_path: Path | None) -> None:
    """Print the settings in one of the forms."""
    if server is None and (public_url := load(config_path, os.environ).public_url) is not None:
        server = update_url(public_url)
    if server is None:
        raise click.UsageError(
            "The mirror's URL is not known: give it with --server http://HOST:8000, "
            "or set public_url in the config."
        )
    click.echo(_FORMATS[form].format(group=group, server=server), nl=False)
