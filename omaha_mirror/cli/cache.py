"""`omaha-mirror cache`: look at the cache and tidy it, whether the mirror runs or not."""

from pathlib import Path

import click

from omaha_mirror.cli.options import config_option

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Remove nothing, only say what would go."
)


@click.group()
def cache() -> None:
    """Look at the cache and tidy it, whether the mirror runs or not.

    A KEY is a blob's digest, at least 6 digits of its beginning, or the end of the address that it came from, such as
    3815.2.1/flatcar_production_update.gz.
    """


@cache.command()
@config_option
@json_option
def ls(config_path: Path | None, as_json: bool) -> None:
    """List what is in the cache, last used first. It changes nothing."""
    from omaha_mirror.cli import cache_work

    cache_work.ls(config_path, as_json)


@cache.command()
@config_option
@click.argument("keys", nargs=-1, metavar="[KEY...]")
@json_option
def verify(config_path: Path | None, keys: tuple[str, ...], as_json: bool) -> None:
    """Read blobs again, all if none is named, and hold them against their digests.

    What is wrong is put aside; the next machine that wants it has it fetched again. The exit status is then 4.
    """
    from omaha_mirror.cli import cache_work

    cache_work.verify(config_path, keys, as_json)


@cache.command()
@config_option
@dry_run_option
@json_option
def gc(config_path: Path | None, dry_run: bool, as_json: bool) -> None:
    """Evict down to max_size and min_free, and sweep what has lain about for a week.

    That is packages that nobody fetches on, and wrong bytes that were put aside.
    """
    from omaha_mirror.cli import cache_work

    cache_work.gc(config_path, dry_run, as_json)


@cache.command()
@config_option
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@dry_run_option
@json_option
def rm(config_path: Path | None, keys: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Remove blobs, offered ones included: the next machine has them fetched again.

    What is in use is refused. With an unknown KEY nothing is removed, and the exit status is 3.
    """
    from omaha_mirror.cli import cache_work

    cache_work.rm(config_path, keys, dry_run, as_json)
