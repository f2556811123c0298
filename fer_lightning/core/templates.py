"""Text and HTML from Jinja2 templates.

A page extends ``base.html.j2``: one file that opens from disk without a network, light and dark.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


def render(template: Path, **values: Any) -> str:
    """Return a template filled in; in ``*.html.j2`` every value is escaped and stays on one line.

    Args:
        template: it may extend and include files of its own folder and of this one.
        values: by the names that the template uses; one that is missing is an error.
    """
    is_html = ".html." in template.name
    environment = Environment(
        loader=FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=is_html,
        finalize=_printable_value if is_html else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["listed"] = ", ".join  # unlike jinja2's join, it returns text that is still to be escaped
    return environment.get_template(template.name).render(values)


def _printable_value(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def printable(text: str) -> str:
    """Return a text on one line, whatever it holds: what cannot be printed is written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
