"""An XML element as a value, and the writing of XML.

Parsed documents become a tree of `Element`; what the protocol does not know stays one.
"""

import re
from dataclasses import dataclass

from omaha_mirror.omaha.errors import BadValue

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
