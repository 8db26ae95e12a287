"""Messages from bytes and back: what the fields of `protocol` hold, and everything else, unchanged.

A value that its field could not write back as it came (an empty text, a number `007`, an invalid digest) stays in `extra`;
unknown attributes and elements stay in `extra` and `extra_elements`. So a message that is read and written again is the
same; only comments, text around known elements, and the case of hexadecimal digits are lost.
"""

from typing import Any, TypeVar

from omaha_mirror.omaha.errors import TooLarge
from omaha_mirror.omaha.protocol import Request, Response
from omaha_mirror.omaha.reading import check_root, read_message, read_tree
from omaha_mirror.omaha.shapes import REQUEST, RESPONSE, Child, Shape
from omaha_mirror.omaha.xml import (
    REQUEST_LIMITS,
    RESPONSE_LIMITS,
    Element,
    Limits,
    Node,
    checked_name,
    escape,
    read_trusted,
    write,
)

T = TypeVar("T")
AT_ONCE = 8 * 1024
"""Bytes of a message that are read in less than 10 ms, whatever they are."""
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_REQUEST = Child("request", "", REQUEST)


def parse_request(body: bytes, limits: Limits = REQUEST_LIMITS) -> Request:
    """Read a machine's request; its bytes may be hostile.

    Raises:
        OmahaError: If it is not a request of protocol 3 in UTF-8, or passes a limit.
    """
    request: Request = read_message(body, limits, _REQUEST)
    _check_apps(request, limits)
    return request


def parse_response(body: bytes, limits: Limits = RESPONSE_LIMITS) -> Response:
    """Read what a server answered. Over `AT_ONCE` bytes it may take more than 10 ms: use a worker.

    Raises:
        OmahaError: If it is not a response of protocol 3 in UTF-8, or passes a limit.
    """
    response = _response(read_tree(body, limits))
    _check_apps(response, limits)
    return response


def parse_stored_response(body: bytes) -> Response:
    """Read a response that `serialise_response` wrote, from a file of the mirror's own.

    Raises:
        OmahaError: If the file was damaged.
    """
    return _response(read_trusted(body))


def _check_apps(message: Request | Response, limits: Limits) -> None:
    if len(message.apps) > limits.apps:
        raise TooLarge(f"{len(message.apps)} apps, and {limits.apps} are accepted")


def serialise_request(request: Request) -> bytes:
    """Write a request.

    Raises:
        BadValue: If a value holds characters that XML cannot carry; a parsed one never does.
    """
    return _document(REQUEST, "request", request)


def serialise_response(response: Response) -> bytes:
    """Write a response; it ends with a literal `</response>`, which flatcar-postinst greps for.

    Raises:
        BadValue: If a value holds characters that XML cannot carry; a parsed one never does.
    """
    return _document(RESPONSE, "response", response)


def _document(shape: Shape[T], tag: str, message: T) -> bytes:
    out = [_DECLARATION]
    _write(shape, tag, message, out)
    return "".join(out).encode()


def _response(root: Node) -> Response:
    check_root("response", root.name, root.attributes)
    return _read(RESPONSE, root)


def _read(shape: Shape[T], node: Node) -> T:
    values = shape.fields(node.attributes)
    if node.children:
        _read_children(shape, node.children, values)
    return shape.make(values)


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
    for field, items in lists.items():
        values[field] = tuple(items)
    if rest:
        values["extra_elements"] = tuple(node.keep() for node in _as_written(shape, rest))


def _as_written(shape: Shape[Any], rest: list[Node]) -> list[Node]:
    """What no field holds, in the order of writing: what else was in a wrapper stands where the wrapper does."""
    first = {node.name: node for node in reversed(rest)}
    named = (name for name, child in shape.children.items() if child.wrapper)
    wrappers = [first[name] for name in named if name in first]
    return wrappers + [node for node in rest if not any(node is one for one in wrappers)]


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
