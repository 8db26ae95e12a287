"""XML documents as trees: their limits, those that the mirror itself wrote, and how they are written.

lxml keeps every distinct name for the life of the process and takes quadratic time for many attributes, so what comes from
outside is read in `reading`, by expat. Neither reads DTDs, resolves entities or uses the network.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from lxml import etree

from omaha_mirror.omaha.errors import (
    BadValue,
    MalformedXML,
    TooLarge,
    UnexpectedXML,
    UnsupportedEncoding,
)

_UTF_16 = (b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")
_GZIP = b"\x1f\x8b"
Attributes = tuple[tuple[str, str], ...]

_SPECIAL = re.compile(r'[&<>"\x00-\x1f\ud800-\udfff\ufffe\uffff]')
_REPLACEMENTS = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "\t": "&#9;",
    "\n": "&#10;",
    "\r": "&#13;",
}
_NAME = re.compile(r"""(?![-.0-9])[^\s\x00-\x1f<>&"'/=!?\ud800-\udfff\ufffe\uffff]+""")


@dataclass(frozen=True, slots=True)
class Element:
    """An element with all that was in it, but comments and processing instructions.

    Attributes:
        name: As written; a prefix is a part of it.
        attributes: Pairs of name and value, in the order of the document.
        text: The text directly inside; blanks around children are dropped.
        children: The elements inside.
    """

    name: str
    attributes: Attributes = ()
    text: str = ""
    children: tuple["Element", ...] = ()


def write(element: Element, out: list[str]) -> None:
    """Append the element as XML to `out`.

    Raises:
        BadValue: If a name is not one, or a text holds characters that XML cannot carry.
    """
    name = checked_name(element.name)
    out.append("<" + name)
    for attribute, text in element.attributes:
        out.append(f' {checked_name(attribute)}="{escape(text)}"')
    out.append(">" + escape(element.text))
    for child in element.children:
        write(child, out)
    out.append(f"</{name}>")


def escape(text: str) -> str:
    """Text as it may stand in an attribute or an element, line ends and tabs kept.

    Raises:
        BadValue: If it holds characters that XML 1.0 (section 2.2) cannot carry.
    """
    return _SPECIAL.sub(_replacement, text) if _SPECIAL.search(text) else text


def checked_name(name: str) -> str:
    """The name itself.

    Raises:
        BadValue: If it would break the markup around it.
    """
    if not _NAME.fullmatch(name):
        raise BadValue(f"not a name of an XML element or attribute: {name[:80]!r}")
    return name


def _replacement(match: re.Match[str]) -> str:
    try:
        return _REPLACEMENTS[match[0]]
    except KeyError:
        raise BadValue(f"XML cannot carry the character {match[0]!a}") from None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a document may hold at most; the defaults are for requests.

    Attributes:
        body: Bytes of the document; update_engine sends 650 to 800.
        depth: Elements inside one another; Omaha has 3.
        elements: Elements in all; update_engine sends 6, and each may be an event that is counted, logged and kept.
        attributes: Attributes of one element; update_engine sends 13.
        value: Characters of one attribute value.
        names: Different names of elements and attributes; a message of Omaha has about 50.
        apps: Apps of one message; update_engine sends one.
    """

    body: int = 64 * 1024
    depth: int = 16
    elements: int = 300
    attributes: int = 64
    value: int = 1024
    names: int = 1000
    apps: int = 32


REQUEST_LIMITS = Limits()
RESPONSE_LIMITS = Limits(body=1 << 20, elements=10_000, value=64 * 1024)
"""A server with a hundred steps and their packages says all of it in a tenth."""


class Node(NamedTuple):
    """An element while a document is read; what is kept of it becomes an `Element`."""

    name: str
    attributes: dict[str, str]
    text: list[str]
    children: list["Node"]

    def keep(self) -> Element:
        """All of it as a value."""
        text = "".join(self.text)
        if self.children and text.isspace():
            text = ""
        children = tuple(child.keep() for child in self.children)
        return Element(self.name, tuple(self.attributes.items()), text, children)


new_node: Callable[[tuple[str, dict[str, str], list[str], list[Node]]], Node] = partial(
    tuple.__new__, Node
)
"""What `Node(...)` does, at half of the cost."""


def read_trusted(body: bytes) -> Node:
    """Read a document that passed `reading.read_tree` before it was written down.

    Raises:
        OmahaError: If it is not well-formed UTF-8 XML: the file was damaged.
    """
    refuse_early(body, RESPONSE_LIMITS.body)
    # Without collect_ids=False: that option turns the loading of external DTDs back on.
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        return _from_lxml(etree.fromstring(body, parser))
    except (etree.XMLSyntaxError, ValueError) as error:
        one_line = " ".join(str(error).split())
        raise MalformedXML(f"not well-formed XML: {one_line:.200}") from None


def _from_lxml(element: etree._Element) -> Node:
    if not isinstance(element.tag, str):
        raise UnexpectedXML("an entity is not accepted")
    attributes = {str(name): str(text) for name, text in element.items()}
    text = [element.text or "", *(child.tail or "" for child in element)]
    return Node(element.tag, attributes, text, list(map(_from_lxml, element)))


def refuse_early(body: bytes, limit: int) -> None:
    """Refuse what need not be parsed. Raises OmahaError."""
    if len(body) > limit:
        raise TooLarge(f"{len(body)} bytes, and {limit} are accepted")
    if not body:
        raise MalformedXML("the document is empty")
    if body.startswith(_UTF_16):
        raise UnsupportedEncoding("UTF-16 is not accepted: send UTF-8")
    if body.startswith(_GZIP):
        raise UnsupportedEncoding("compressed bodies are not accepted: send plain XML")
