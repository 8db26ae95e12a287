"""Reads YAML to plain values, with the place of each and the type that YAML 1.1 silently gives it."""

import re
from dataclasses import dataclass, field

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

KeyPath = tuple[str | int, ...]
"""The keys and list indices that lead to a value."""

_TAG = "tag:yaml.org,2002:"
_KINDS = {"int": "a number", "float": "a number", "bool": "a boolean", "timestamp": "a date"}


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a key and of its value (line and column from 1), and the value's text."""

    key: tuple[int, int]
    value: tuple[int, int]
    text: str = ""
    """A scalar as the file has it, without quotes; empty for a mapping or a list."""
    kind: str = ""
    """The type that YAML gives an unquoted scalar, in words, if it is not text."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """An error in a document."""

    path: KeyPath
    at: tuple[int, int]
    message: str


@dataclass(slots=True)
class Document:
    """A document as plain dicts, lists and scalars; `data` is None if the text is empty."""

    source: str
    """The file or variable of the text, for messages."""
    text: str
    root: KeyPath = ()
    """The path of the document in the config; all its paths begin with it."""
    data: object = None
    places: dict[KeyPath, Place] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)


def read(source: str, text: str, root: KeyPath = ()) -> Document:
    """Read one YAML document. Aliases, tags, merge keys and repeated keys are flaws."""
    document = Document(source, text, root)
    try:
        # The loader in Python: deep nesting in the C one can exhaust the stack of the process.
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            document.data = _Reader(document).value(node, root, None)
    except yaml.reader.ReaderError as error:
        at = _line_and_column(text, error.position)
        document.flaws.append(Flaw(root, at, "this is not text: a character YAML does not allow"))
    except yaml.MarkedYAMLError as error:
        document.flaws.append(_syntax_flaw(error, root))
    except RecursionError:
        document.flaws.append(Flaw(root, (1, 1), "it is nested too deeply"))
    return document


def _line_and_column(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset]
    return before.count("\n") + 1, offset - before.rfind("\n")


def _syntax_flaw(error: yaml.MarkedYAMLError, root: KeyPath) -> Flaw:
    mark = error.problem_mark or error.context_mark
    at = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    what = error.problem or "it cannot be read"
    if r"'\t'" in what:
        return Flaw(root, at, "a tab where YAML wants spaces: indent with spaces")
    context = f" ({error.context})" if error.context else ""
    return Flaw(root, at, f"not valid YAML: {what}{context}")


def _mark(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


class _Reader:
    """Turns nodes into values, and adds places and flaws to the document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._seen: set[int] = set()

    def value(self, node: Node, path: KeyPath, key: Node | None) -> object:
        at = _mark(node)
        if id(node) in self._seen:
            # Composing gives an alias the node of its anchor; following it could take for ever.
            at = _mark(key or node)
            self._document.places[path] = Place(at, at)
            self._flaw(path, at, "aliases (*name) are not read: write the value out")
            return None
        self._seen.add(id(node))
        text = kind = ""
        if isinstance(node, ScalarNode):
            text = node.value
            kind = _KINDS.get(node.tag.removeprefix(_TAG), "") if node.style is None else ""
        self._document.places[path] = Place(_mark(key) if key else at, at, text, kind)
        if isinstance(node, MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path)
        if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.value(item, (*path, i), None) for i, item in enumerate(node.value)]
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        self._flaw(path, at, f"the tag {node.tag} is not read: remove it")
        return None

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, object]:
        found: dict[str, object] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or key.tag != f"{_TAG}str":
                self._flaw(
                    path, _mark(key), "YAML does not read this key as text: put it in quotes"
                )
            elif key.value in found:
                first = lines[key.value]
                self._flaw((*path, key.value), _mark(key), f"this key is already on line {first}")
            else:
                lines[key.value] = _mark(key)[0]
                found[key.value] = self.value(value, (*path, key.value), key)
        return found

    def _scalar(self, node: ScalarNode, path: KeyPath) -> object:
        kind = node.tag.removeprefix(_TAG)
        try:
            value: object = SafeConstructor().construct_document(node)
        except (yaml.YAMLError, ValueError, OverflowError):
            self._flaw(path, _mark(node), f"{node.value[:40]!r} cannot be read as {kind}")
            return node.value
        if kind in ("int", "float") and re.search(r"[:_]", node.value):
            self._flaw(
                path,
                _mark(node),
                f"YAML reads {node.value} as the number {value}: {quote(node.value)}",
            )
            return node.value
        return value

    def _flaw(self, path: KeyPath, at: tuple[int, int], message: str) -> None:
        self._document.flaws.append(Flaw(path, at, message))


def quote(text: str) -> str:
    """The advice to put a scalar in quotes."""
    return f'put it in quotes, "{text}"'
