"""Imports go one way, between the packages and between the modules of each."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.syntax import tree

ROOT = Path(__file__).parent.parent / "omaha_mirror"

LAYERS = """
    state_file text systemd aio reasons | omaha payload http_ranges config cache | upstream fleet | catalog | policy packages
    | observability bundle | composition | service offline | web client cli
"""
"""Each imports only from what stands to its left; CONTRIBUTING.md shows the same line."""

CLOSED = {
    "cache": {"omaha", "payload", "http_ranges", "config"},
    "catalog": {"cache", "payload"},
    "payload": {"omaha"},
    "http_ranges": {"omaha", "payload"},
    "upstream": {"cache", "payload"},
    "fleet": {"cache", "config", "payload", "http_ranges", "upstream"},
    "client": {"config", "service", "web", "upstream", "catalog", "policy", "packages", "bundle"},
}
"""What stands to the left and is closed all the same: the cache knows no Omaha, the catalog no cache."""

EXCEPTIONS = {
    ("policy.availability", "packages"): "what is wrong with a package is known of its blob",
}

LIBRARIES = {
    "aiofiles": {"bundle", "client"},
    "aiohttp": {"upstream", "web", "client"},
    "alembic": {"fleet"},
    "cryptography": {"config", "payload"},
    "google": {"payload"},
    "jinja2": {"web"},
    "lxml": {"omaha"},
    "markupsafe": {"web"},
    "prometheus_client": {"observability"},
    "pydantic": {"config", "policy", "web"},
    "pydantic_core": {"config"},
    "sqlalchemy": {"fleet"},
    "structlog": {
        *("aio", "cache", "state_file", "systemd", "upstream", "fleet"),
        *("catalog", "packages", "policy", "observability", "web"),
    },
    "yaml": {"config"},
    "yarl": {"upstream"},
}
"""Who uses which library; `cli` may use all."""

CLOSED_TO_IO = {"omaha", "http_ranges"}
IO_MODULES = {"asyncio", "socket", "logging", "subprocess", "threading", "urllib.request"}

PACKAGES = [name for name in LAYERS.split() if name != "|"]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
EVERY_MODULE = pytest.mark.parametrize("name", MODULES)


def imports(path: Path) -> Iterator[str]:
    """What a module imports, where it says so and in `TYPE_CHECKING`, by full name; ours without `omaha_mirror.`."""
    for node in ast.walk(tree(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("omaha_mirror.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            module = node.module.removeprefix("omaha_mirror").removeprefix(".")
            for alias in node.names:
                full = f"{module}.{alias.name}".removeprefix(".")
                yield full if full in MODULES else module


IMPORTS: Mapping[str, set[str]] = {name: set(imports(path)) for name, path in MODULES.items()}


@EVERY_MODULE
def test_a_module_imports_only_what_stands_to_the_left(name: str) -> None:
    package = name.partition(".")[0]
    if package in {"__init__", "__main__"}:
        return
    assert package in PACKAGES, f"{package} has no place in the architecture yet"
    allowed = set(PACKAGES[: PACKAGES.index(package) + 1]) - CLOSED.get(package, set())
    allowed |= {other for module, other in EXCEPTIONS if module == name}
    ours = {found.partition(".")[0] for found in IMPORTS[name] if found in MODULES}
    assert ours <= allowed


@EVERY_MODULE
def test_a_module_uses_only_the_libraries_of_its_package(name: str) -> None:
    package = name.partition(".")[0]
    for found in IMPORTS[name] - set(MODULES) - {""}:
        library = found.partition(".")[0]
        if library not in sys.stdlib_module_names and package != "cli":
            assert package in LIBRARIES[library], library


def test_every_exception_is_still_needed() -> None:
    for module, other in EXCEPTIONS:
        assert any(found.partition(".")[0] == other for found in IMPORTS[module])


def test_no_modules_of_a_package_import_each_other() -> None:
    modules = {name for name in MODULES if MODULES[name].name != "__init__.py"}
    graph = {name: IMPORTS[name] & modules for name in modules}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


@EVERY_MODULE
def test_only_web_imports_the_http_server(name: str) -> None:
    if not name.startswith("web"):
        source = MODULES[name].read_text()
        assert "aiohttp.web" not in source
        assert "from aiohttp import web" not in source


@EVERY_MODULE
def test_the_pure_packages_do_no_io(name: str) -> None:
    if name.partition(".")[0] in CLOSED_TO_IO:
        assert IMPORTS[name] & IO_MODULES == set()


def span(node: ast.AST) -> set[int]:
    return {*range(node.lineno, node.end_lineno + 1)}  # type: ignore[attr-defined]


@EVERY_MODULE
def test_no_module_and_no_function_outgrows_a_reader(name: str) -> None:
    """Docstrings, comments and blank lines do not count."""
    source = MODULES[name].read_text()
    nodes = list(ast.walk(tree(source)))
    lines = (line.strip() for line in source.splitlines())
    code = {at for at, line in enumerate(lines, 1) if line and not line.startswith("#")}
    for node in nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            code -= span(node)
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [each.name for each in functions if len(code & span(each)) > 40]
    assert (len(code) <= 250, long) == (True, [])
