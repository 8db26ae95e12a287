"""Imports go one way: nothing imports anything to its right."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "omaha_mirror"

ALLOWED: dict[str, set[str]] = {
    "background": set(),
    "files": set(),
    "workers": set(),
    "clock": set(),
    "omaha": {"lxml"},
    "proxies": set(),
    "payload": {"cryptography", "google"},
    "semantics": set(),
    "cache": {"files", "structlog", "workers"},
    "upstream": {"background", "aiohttp", "clock", "files", "proxies", "yarl", "omaha", "workers"},
    "fleet": {"background", "alembic", "clock", "files", "omaha", "sqlalchemy", "workers"},
    "catalog": {"background", "clock", "files", "omaha", "structlog", "upstream", "workers"},
    "config": {
        "clock",
        "cryptography",
        "pydantic",
        "pydantic_core",
        "yaml",
        "omaha",
        "payload",
        "proxies",
    },
    "systemd": {"structlog"},
    "standard_error": set(),
    "telemetry": {"standard_error", "structlog"},
    "expect": {"cache", "catalog"},
    "upstream_source": {"cache", "upstream"},
    "reports": {"cache", "catalog", "omaha"},
    "narrator": {"cache", "structlog"},
    "health": {"catalog", "clock", "files", "workers"},
    "metrics": {"cache", "catalog", "health", "omaha", "prometheus_client"},
    "doubts": {"cache", "catalog", "expect"},
    "instruments": {
        "cache",
        "catalog",
        "config",
        "doubts",
        "health",
        "metrics",
        "standard_error",
        "workers",
    },
    "packages": {"cache", "catalog", "clock", "expect", "omaha", "upstream", "upstream_source"},
    "ahead": {"background", "cache", "catalog", "expect", "structlog"},
    "bundle": {"ahead", "cache", "catalog", "expect", "files", "omaha", "packages", "workers"},
    "override_files": {"config", "files", "pydantic"},
    "overrides": {"cache", "clock", "config", "health", "override_files", "workers"},
    "preview": {"catalog", "fleet", "omaha", "upstream"},
    "proof": {"cache", "payload"},
    "timekeeper": {"cache", "clock", "files", "workers"},
    "steward": {"ahead", "catalog", "omaha"},
    "desk": {"catalog", "clock", "config", "omaha", "overrides", "upstream"},
    "outward": {
        "catalog",
        "clock",
        "config",
        "desk",
        "metrics",
        "omaha",
        "preview",
        "upstream",
        "workers",
    },
    "register": {"cache", "clock", "fleet", "health", "reports"},
    "books": {"cache", "catalog", "clock", "metrics", "narrator", "register", "reports"},
    "service": {
        "background",
        "ahead",
        "books",
        "bundle",
        "cache",
        "catalog",
        "clock",
        "config",
        "desk",
        "doubts",
        "expect",
        "health",
        "instruments",
        "metrics",
        "omaha",
        "outward",
        "overrides",
        "packages",
        "preview",
        "proof",
        "register",
        "reports",
        "steward",
        "telemetry",
        "timekeeper",
        "upstream",
    },
    "local": {"cache", "catalog", "omaha", "proof"},
    "web": {
        "background",
        "ahead",
        "aiohttp",
        "bundle",
        "cache",
        "catalog",
        "clock",
        "config",
        "doubts",
        "expect",
        "fleet",
        "health",
        "jinja2",
        "markupsafe",
        "metrics",
        "omaha",
        "preview",
        "pydantic",
        "reports",
        "semantics",
        "service",
        "steward",
        "structlog",
        "telemetry",
        "workers",
    },
}
"""What each package may import besides the standard library and itself, leaves first; `cli` may import everything."""

OURS = list(ALLOWED)
CLOSED_TO_IO = {"omaha", "semantics"}
IO_MODULES = {"asyncio", "socket", "logging", "subprocess", "threading", "urllib.request"}
MODULES = sorted(ROOT.rglob("*.py"))


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            if node.module == "omaha_mirror":
                yield from (f"omaha_mirror.{alias.name}" for alias in node.names)


def named(path: Path) -> set[str]:
    """The packages that a module imports, ours by their own name."""
    found = set()
    for name in imports(path):
        head, *rest = name.split(".")
        if head == "omaha_mirror":
            found |= set(rest[:1])
        elif head not in sys.stdlib_module_names:
            found.add(head)
    return found - {"__version__"}


def test_the_table_goes_one_way() -> None:
    for i, package in enumerate(OURS):
        assert ALLOWED[package] & set(OURS[i:]) == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    package = package_of(path)
    if package in {"cli", "__init__", "__main__"}:
        return
    assert package in ALLOWED, f"{package} has no place in the architecture yet"
    assert named(path) - ALLOWED[package] - {package} == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_web_imports_the_http_server(path: Path) -> None:
    if package_of(path) != "web":
        source = path.read_text()
        assert "aiohttp.web" not in source
        assert "from aiohttp import web" not in source


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_pure_packages_do_no_io(path: Path) -> None:
    if package_of(path) in CLOSED_TO_IO:
        assert set(imports(path)) & IO_MODULES == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_outgrows_a_reader(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350
