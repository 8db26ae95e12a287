"""Templates, which escape all text."""

from __future__ import annotations

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from omaha_mirror.web.admin.page.rendering import HERE, Rendered

TEMPLATES = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)


def compile_templates() -> None:
    """Compile all of them, before it could delay a request."""
    for name in TEMPLATES.list_templates():
        TEMPLATES.get_template(name)


def render(template: str, **values: object) -> str:
    """A template filled in."""
    return TEMPLATES.get_template(template).render(values)


def as_markup(rendered: Rendered) -> Markup:
    """Markup that a template takes in unescaped: another template rendered it."""
    return Markup(rendered.body.decode())  # noqa: S704 - see above
