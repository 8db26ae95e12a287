"""Documents from outside, read by expat in one pass.

expat keeps nothing after the parse, takes time in proportion to the bytes, and each limit is checked before it goes on.
What a shape knows goes straight into the fields of its message; a tree is made only of what no shape knows.
"""

import re
from typing import Any
from xml.parsers import expat

from omaha_mirror.omaha.errors import (
    MalformedXML,
    TooLarge,
    UnexpectedXML,
    UnsupportedEncoding,
    UnsupportedProtocol,
)
from omaha_mirror.omaha.shapes import Child
from omaha_mirror.omaha.xml import Limits, Node, new_node, refuse_early

_PROTOCOL_3 = re.compile(r"3(\.[0-9]+)?")


def read_tree(body: bytes, limits: Limits) -> Node:
    """Read a document as a tree; names with a namespace are refused, as no client reads them.

    Args:
        body: UTF-8.
        limits: Looked at before anything is kept.

    Raises:
        OmahaError: If it is not well-formed UTF-8 XML without a DTD, or passes a limit.
    """
    document = Node("", {}, [], [])
    names = _Reading(limits, None, [document]).parse(body)
    if any(name.partition(":")[0] == "xmlns" or ":" in name for name in names):
        raise UnexpectedXML("XML namespaces are not accepted: no client reads them")
    return document.children[0]


def read_message(body: bytes, limits: Limits, root: Child) -> Any:
    """Read a document as the message that its root is known to be. Raises as `read_tree`."""
    reading = _Reading(limits, root, [])
    reading.parse(body)
    return reading.message


class _Reading:
    """One document while it is read.

    Args:
        limits: for it.
        root: The element that it must be; None: all of it goes into the tree.
        kept: The open elements that no shape knows; they are inside of those that one knows.

    Attributes:
        message: What the document is, at the end.
    """

    __slots__ = (
        "_deepest",
        "_kept",
        "_known",
        "_left",
        "_limits",
        "_long",
        "_names",
        "_root",
        "_texts",
        "message",
    )

    def __init__(self, limits: Limits, root: Child | None, kept: list[Node]) -> None:
        self.message: Any = None
        self._limits, self._root, self._kept = limits, root, kept
        self._known: list[tuple[Child, dict[str, Any]]] = []
        self._left = limits.elements
        self._deepest = limits.depth - (root is not None)
        self._long = False
        self._names: dict[str, str] = {}
        self._texts: list[str] = []

    def parse(self, body: bytes) -> dict[str, str]:
        """Parse, and refuse every encoding but UTF-8, and every DOCTYPE; gives all names. Raises OmahaError."""
        refuse_early(body, self._limits.body)
        parser = expat.ParserCreate("UTF-8")
        self._long = len(body) > self._limits.value
        self._names = parser.intern
        parser.buffer_text = True
        parser.XmlDeclHandler = _refuse_encoding
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartElementHandler = self._start
        parser.CharacterDataHandler = self._texts.append
        parser.EndElementHandler = self._end
        try:
            parser.Parse(body, True)
        except expat.ExpatError as error:
            raise MalformedXML(f"not well-formed XML: {error}") from None
        return self._names

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        known, kept = self._known, self._kept
        self._left -= 1
        if (
            self._left < 0
            or len(known) + len(kept) > self._deepest
            or len(attributes) > self._limits.attributes
            or len(self._names) > self._limits.names
            or (self._long and attributes)
        ):
            self._refuse(name, attributes)
        if kept:
            self._keep_text()
        elif known:
            child, values = known[-1]
            inner = child.shape.children.get(name)
            if inner is not None and (inner.many or inner.field not in values):
                known.append((inner, inner.shape.fields(attributes)))
                return
            self._texts.clear()  # what stands around elements that are known is not kept
        elif self._root is not None:
            check_root(self._root.tag, name, attributes)
            known.append((self._root, self._root.shape.fields(attributes)))
            return
        node = new_node((name, attributes, [], []))
        if kept:
            kept[-1].children.append(node)
        kept.append(node)

    def _refuse(self, name: str, attributes: dict[str, str]) -> None:
        """Refuse an element if it passes a limit."""
        limits = self._limits
        if self._left < 0:
            raise TooLarge(f"more than {limits.elements} XML elements")
        if len(self._known) + len(self._kept) > self._deepest:
            raise TooLarge(f"XML elements nested deeper than {limits.depth}")
        if len(attributes) > limits.attributes:
            raise TooLarge(f"more than {limits.attributes} attributes on <{name[:40]}>")
        if len(self._names) > limits.names:
            raise TooLarge(f"more than {limits.names} different names")
        if attributes and max(map(len, attributes.values())) > limits.value:
            raise TooLarge(f"an attribute of <{name[:40]}> is over {limits.value} characters")

    def _end(self, _name: str) -> None:
        if self._kept:
            self._keep_text()
            node = self._kept.pop()
            if not self._kept:
                _, values = self._known[-1]
                values["extra_elements"] = (*values.get("extra_elements", ()), node.keep())
            return
        child, values = self._known.pop()
        message = child.shape.make(values)
        if not self._known:
            self.message = message
            return
        _, outer = self._known[-1]
        outer[child.field] = (*outer.get(child.field, ()), message) if child.many else message

    def _keep_text(self) -> None:
        if self._texts:
            self._kept[-1].text.extend(self._texts)
            self._texts.clear()


def check_root(tag: str, name: str, attributes: dict[str, str]) -> None:
    """Refuse a document that begins with another element than `tag`, or speaks another protocol. Raises OmahaError."""
    if name != tag:
        raise UnexpectedXML(f"expected <{tag}>, found <{name[:40]}>")
    spoken = attributes.get("protocol", "")
    if not _PROTOCOL_3.fullmatch(spoken):
        raise UnsupportedProtocol(f"protocol {spoken[:40]!r} is not Omaha 3.0")


def _refuse_encoding(_version: str, encoding: str | None, _standalone: int) -> None:
    if encoding is not None and encoding.lower() != "utf-8":
        raise UnsupportedEncoding(f"the encoding {encoding[:40]!r} is not accepted: send UTF-8")


def _refuse_doctype(_name: str, _system: str | None, _public: str | None, _internal: bool) -> None:
    raise UnexpectedXML("a DOCTYPE is not accepted")
