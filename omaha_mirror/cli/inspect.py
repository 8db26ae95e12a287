"""`omaha-mirror inspect`: the contents and signatures of an update payload, for people and for programs."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from omaha_mirror.cli.exits import Exit, Failure
from omaha_mirror.cli.terminal import print_table
from omaha_mirror.payload import (
    BadKey,
    Info,
    Key,
    PayloadError,
    Report,
    Section,
    load_keys,
    verify,
)
from omaha_mirror.text import printable


def run(file: Path, key_paths: Sequence[Path], as_json: bool) -> None:
    """Verify a payload, and print the result."""
    try:
        keys = load_keys(key_paths)
    except BadKey as error:
        raise click.UsageError(str(error)) from None
    report = _verify(file, keys)
    if as_json:
        click.echo(json.dumps(as_data(file, report, keys), indent=2))
    else:
        _show(file, report, keys)
    if problems := list(_problems(report, keys)):
        raise Failure("\nError: ".join(problems), Exit.VERIFICATION_FAILED)


def _verify(path: Path, keys: Sequence[Key]) -> Report:
    name = printable(str(path))
    if path.exists() and not path.is_file():
        raise Failure(f"{name} is no regular file")
    try:
        with path.open("rb") as file:
            return verify(file, keys)
    except PayloadError as error:
        raise Failure(f"{name}: {error}") from None
    except OSError as error:
        raise Failure(f"{name}: {error.strerror or error}") from None


def _problems(report: Report, keys: Sequence[Key]) -> Iterator[str]:
    for start, stop in report.wrong:
        yield f"the data of the operation at bytes {start} to {stop} does not have the manifest's digest"
    if keys and not report.signed.signatures:
        yield "it is not signed"
    elif keys and not report.signed.valid_for_update_engine:
        yield "no signature that update_engine looks at (the first of version 2) is by a given key"


def as_data(file: Path, report: Report, keys: Sequence[Key]) -> dict[str, Any]:
    """A report as JSON has it. Without keys the validity is null."""
    manifest, signed = report.manifest, report.signed
    return {
        "file": str(file),
        "kind": _kind(report),
        "size": manifest.size,
        "sha256": report.sha256.hex(),
        "sha256_base64": b64encode(report.sha256).decode(),
        "sha1_base64": b64encode(report.sha1).decode(),
        "metadata_size": manifest.metadata_size,
        "block_size": manifest.block_size,
        "sections": [
            {
                "name": section.name,
                "old": _info(section.old),
                "new": _info(section.new),
                "data_size": _data_size(section),
                "operations": _operations(section),
            }
            for section in manifest.sections
        ],
        "wrong": [{"start": start, "stop": stop} for start, stop in report.wrong],
        "signatures": [
            {"version": s.version, "key": None if s.key is None else _key(s.key)}
            for s in signed.signatures
        ],
        "keys": [_key(key) for key in keys],
        "valid_for_update_engine": signed.valid_for_update_engine if keys else None,
        "valid_for_ue_rs": signed.valid_for_ue_rs if keys else None,
    }


def _show(file: Path, report: Report, keys: Sequence[Key]) -> None:
    size = report.manifest.size
    click.echo(f"{printable(str(file))}: {_kind(report)} payload, {decimal(size)} ({size} bytes)")
    click.echo(f"SHA-256  {report.sha256.hex()}\n         {b64encode(report.sha256).decode()}")
    click.echo(f"SHA-1    {b64encode(report.sha1).decode()}\n")
    print_table(_sections(report))
    click.echo()
    if report.signed.signatures:
        print_table(_signatures(report, keys))
    else:
        click.echo("not signed")
    if keys:
        for client, takes in (
            ("update_engine", report.signed.valid_for_update_engine),
            ("ue-rs", report.signed.valid_for_ue_rs),
        ):
            click.echo(f"{client} {'takes' if takes else 'refuses'} a payload signed so")


def _sections(report: Report) -> Table:
    table = _table("INSTALLS TO", "BEFORE", "AFTER", "DATA", "OPERATIONS")
    for section in report.manifest.sections:
        table.add_row(
            section.name,
            _image(section.old) if report.manifest.is_delta else "(anything)",
            _image(section.new),
            decimal(_data_size(section)),
            ", ".join(f"{count} {name}" for name, count in _operations(section).items()),
        )
    return table


def _signatures(report: Report, keys: Sequence[Key]) -> Table:
    table = _table("SIGNATURE", "KEY")
    for signature in report.signed.signatures:
        version = "no version" if signature.version is None else f"version {signature.version}"
        if signature.key is not None:
            table.add_row(version, Text(f"{signature.key.id}  {printable(signature.key.name)}"))
        else:
            table.add_row(version, "none of those given" if keys else "(not checked: give --key)")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _kind(report: Report) -> str:
    return "delta" if report.manifest.is_delta else "full"


def _image(info: Info | None) -> str:
    return (
        "(not said)" if info is None else f"{decimal(info.size)}, SHA-256 {info.sha256.hex()[:12]}"
    )


def _info(info: Info | None) -> dict[str, Any] | None:
    return None if info is None else {"size": info.size, "sha256": info.sha256.hex()}


def _data_size(section: Section) -> int:
    return sum(operation.stop - operation.start for operation in section.operations)


def _operations(section: Section) -> dict[str, int]:
    """How many there are of each type, most first."""
    return dict(Counter(operation.type.name for operation in section.operations).most_common())


def _key(key: Key) -> dict[str, str]:
    return {"id": key.id, "file": key.name}
