"""The syntax trees of our own modules."""

import ast
from contextlib import suppress


def tree(source: str) -> ast.Module:
    """The tree of a module.

    CPython 3.11 raises SystemError where another thread, or a finalizer, formats a traceback meanwhile, which parses too.
    """
    while True:
        with suppress(SystemError):
            return ast.parse(source)
