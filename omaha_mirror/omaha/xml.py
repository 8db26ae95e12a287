"""From bytes to the protocol and back, with limits on everything.

What comes from outside is read with expat, which forgets a document with its parser, takes time in proportion to its bytes
whatever it holds, and looks at each limit before it goes on. lxml, which keeps every distinct name for the life of the
process and takes quadratic time for many attributes, reads only what the mirror itself has written. Neither reader knows
DTDs, entities or the network.

What a field could not give back as it came (an empty text, a number `007`, a digest that is none) is not put there but
stays in `extra`; what is unknown stays in `extra` or `extra_elements`. So a message that is read and written again says
what it said; only comments, text around known elements, and the case of hexadecimal digits are lost.
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from xml.parsers import expat

from lxml import etree

from omaha_mirror.omaha.element import Element, checked_name, escape, write
from omaha_mirror.omaha.errors import (
    MalformedXML,
    TooLarge,
    UnexpectedXML,
    UnsupportedEncoding,
    UnsupportedProtocol,
)
from omaha_mirror.omaha.protocol import Request, Response
from omaha_mirror.omaha.shapes import REQUEST, RESPONSE, Child, Shape

_UTF_16 = (b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")
_GZIP = b"\x1f\x8b"
T = TypeVar("T")
AT_ONCE = 8 * 1024
"""Bytes of a message that are read in less than 10 ms, whatever they are."""
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_PROTOCOL_3 = re.compile(r"3(\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a document may hold at most; the defaults are for requests.

    Attributes:
        body: Bytes of the document; update_engine sends 650 to 800.
        depth: Elements inside one another; Omaha has 3.
        elements: Elements in all.
        attributes: Attributes of one element; update_engine sends 13.
        value: Characters of one attribute value.
        names: Different names of elements and attributes; a message of Omaha has about 50.
        apps: Apps of one message; update_engine sends one.
    """

    body: int = 64 * 1024
    depth: int = 16
    elements: int = 1000
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


def read(body: bytes, limits: Limits, *, strict: bool = False) -> Node:
    """Read a document.

    Args:
        body: UTF-8.
        limits: Looked at before anything is kept.
        strict: Refuse names with a namespace: no client reads them.

    Raises:
        OmahaError: If it is not well-formed UTF-8 XML without a DTD, or passes a limit.
    """
    _refuse_early(body, limits.body)
    document: list[Node] = []
    siblings = document
    outer: list[list[Node]] = []
    left = limits.elements
    names: set[str] = set()

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal siblings, left
        left -= 1
        if left < 0:
            raise TooLarge(f"more than {limits.elements} XML elements")
        if len(outer) >= limits.depth:
            raise TooLarge(f"XML elements nested deeper than {limits.depth}")
        if attributes:
            _check_attributes(name, attributes, limits)
            names.update(attributes)
        names.add(name)
        if len(names) > limits.names:
            raise TooLarge(f"more than {limits.names} different names")
        node = Node(name, attributes, [], [])
        siblings.append(node)
        outer.append(siblings)
        siblings = node.children

    def characters(text: str) -> None:
        outer[-1][-1].text.append(text)

    def end(_name: str) -> None:
        nonlocal siblings
        siblings = outer.pop()

    parser = _new_parser()
    parser.StartElementHandler = start
    parser.CharacterDataHandler = characters
    parser.EndElementHandler = end
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise MalformedXML(f"not well-formed XML: {error}") from None
    if strict and any(name.partition(":")[0] == "xmlns" or ":" in name for name in names):
        raise UnexpectedXML("XML namespaces are not accepted: no client reads them")
    return document[0]


def _check_attributes(name: str, attributes: dict[str, str], limits: Limits) -> None:
    if len(attributes) > limits.attributes:
        raise TooLarge(f"more than {limits.attributes} attributes on <{name[:40]}>")
    if max(map(len, attributes.values())) > limits.value:
        raise TooLarge(f"an attribute of <{name[:40]}> is over {limits.value} characters")


def _new_parser() -> expat.XMLParserType:
    """A parser that refuses every encoding but UTF-8, and every DOCTYPE."""
    parser = expat.ParserCreate("UTF-8")
    parser.buffer_text = True
    parser.XmlDeclHandler = _refuse_encoding
    parser.StartDoctypeDeclHandler = _refuse_doctype
    return parser


def read_trusted(body: bytes) -> Node:
    """Read a document that passed `read` before it was written down.

    Raises:
        OmahaError: If it is not well-formed UTF-8 XML: the file was damaged.
    """
    _refuse_early(body, RESPONSE_LIMITS.body)
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


def _refuse_early(body: bytes, limit: int) -> None:
    if len(body) > limit:
        raise TooLarge(f"{len(body)} bytes, and {limit} are accepted")
    if not body:
        raise MalformedXML("the document is empty")
    if body.startswith(_UTF_16):
        raise UnsupportedEncoding("UTF-16 is not accepted: send UTF-8")
    if body.startswith(_GZIP):
        raise UnsupportedEncoding("compressed bodies are not accepted: send plain XML")


def _refuse_encoding(_version: str, encoding: str | None, _standalone: int) -> None:
    if encoding is not None and encoding.lower() != "utf-8":
        raise UnsupportedEncoding(f"the encoding {encoding[:40]!r} is not accepted: send UTF-8")


def _refuse_doctype(_name: str, _system: str | None, _public: str | None, _internal: bool) -> None:
    raise UnexpectedXML("a DOCTYPE is not accepted")


def parse_request(body: bytes, limits: Limits = REQUEST_LIMITS) -> Request:
    """Read what a machine posted; the bytes may come from anybody.

    Raises:
        OmahaError: If it is not a request of protocol 3 in UTF-8, or passes a limit.
    """
    request = _message(REQUEST, read(body, limits), "request")
    _check_apps(request, limits)
    return request


def parse_response(body: bytes, limits: Limits = RESPONSE_LIMITS) -> Response:
    """Read what a server answered. Over `AT_ONCE` bytes it may take more than 10 ms: use a worker.

    Raises:
        OmahaError: If it is not a response of protocol 3 in UTF-8, or passes a limit.
    """
    response = _message(RESPONSE, read(body, limits, strict=True), "response")
    _check_apps(response, limits)
    return response


def parse_stored_response(body: bytes) -> Response:
    """Read a response that `serialise_response` wrote, from a file of the mirror's own.

    Raises:
        OmahaError: If the file was damaged.
    """
    return _message(RESPONSE, read_trusted(body), "response")


def _check_apps(message: Request | Response, limits: Limits) -> None:
    if len(message.apps) > limits.apps:
        raise TooLarge(f"{len(message.apps)} apps, and {limits.apps} are accepted")


def serialise_request(request: Request) -> bytes:
    """Write a request.

    Raises:
        BadValue: If a value holds characters that XML cannot carry; a parsed one never does.
    """
    out = [_DECLARATION]
    _write(REQUEST, "request", request, out)
    return "".join(out).encode()


def serialise_response(response: Response) -> bytes:
    """Write a response; it ends with a literal `</response>`, which flatcar-postinst greps for.

    Raises:
        BadValue: If a value holds characters that XML cannot carry; a parsed one never does.
    """
    out = [_DECLARATION]
    _write(RESPONSE, "response", response, out)
    return "".join(out).encode()


def _message(shape: Shape[T], root: Node, tag: str) -> T:
    if root.name != tag:
        raise UnexpectedXML(f"expected <{tag}>, found <{root.name[:40]}>")
    spoken = root.attributes.get("protocol", "")
    if not _PROTOCOL_3.fullmatch(spoken):
        raise UnsupportedProtocol(f"protocol {spoken[:40]!r} is not Omaha 3.0")
    return _read(shape, root)


def _read(shape: Shape[T], node: Node) -> T:
    values: dict[str, Any] = {}
    extra = []
    known = shape.attributes
    for name, text in node.attributes.items():
        attribute = known.get(name)
        if attribute is not None and (value := attribute.read(text)) is not None:
            values[attribute.field] = value
        else:
            extra.append((name, text))
    if extra:
        values["extra"] = tuple(extra)
    if node.children:
        _read_children(shape, node.children, values)
    return shape.type(**values)


def _read_children(shape: Shape[Any], nodes: list[Node], values: dict[str, Any]) -> None:
    lists: dict[str, list[Any]] = {}
    rest = []
    for node in nodes:
        child = shape.children.get(node.name)
        if child is None:
            rest.append(node)
        elif child.wrapper:
            found = [inner for inner in node.children if inner.name == child.tag]
            others = [inner for inner in node.children if inner.name != child.tag]
            lists.setdefault(child.field, []).extend(_read(child.shape, each) for each in found)
            if others or node.attributes or not found:
                rest.append(Node(node.name, node.attributes, [], others))
        elif child.many:
            lists.setdefault(child.field, []).append(_read(child.shape, node))
        elif child.field in values:
            rest.append(node)
        else:
            values[child.field] = _read(child.shape, node)
    values.update((field, tuple(items)) for field, items in lists.items())
    if rest:
        values["extra_elements"] = tuple(node.keep() for node in rest)


def _write(shape: Shape[Any], tag: str, message: Any, out: list[str]) -> None:
    out.append("<" + tag)
    values = shape.values(message)
    for attribute, value in zip(shape.attributes.values(), values, strict=False):
        if value != attribute.absent:
            out.append(f' {attribute.name}="{attribute.write(value)}"')
    for name, text in message.extra:
        known = shape.attributes.get(name)
        if known is None or getattr(message, known.field) == known.absent:
            out.append(f' {checked_name(name)}="{escape(text)}"')
    out.append(">")
    rest = list(message.extra_elements)
    for child in shape.children.values():
        items = getattr(message, child.field)
        if child.wrapper:
            _write_wrapped(child, items, rest, out)
        elif child.many:
            for item in items:
                _write(child.shape, child.tag, item, out)
        elif items is not None:
            _write(child.shape, child.tag, items, out)
    for element in rest:
        write(element, out)
    out.append(f"</{tag}>")


def _write_wrapped(
    child: Child, items: tuple[Any, ...], rest: list[Element], out: list[str]
) -> None:
    """Write the items inside their wrapper, together with what else was inside it."""
    wrapper = next((element for element in rest if element.name == child.wrapper), None)
    if wrapper is None:
        if not items:
            return
        wrapper = Element(child.wrapper)
    else:
        rest.remove(wrapper)
    out.append("<" + wrapper.name)
    out.extend(f' {checked_name(name)}="{escape(text)}"' for name, text in wrapper.attributes)
    out.append(">")
    for item in items:
        _write(child.shape, child.tag, item, out)
    for element in wrapper.children:
        write(element, out)
    out.append(f"</{wrapper.name}>")
