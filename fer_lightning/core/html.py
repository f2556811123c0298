"""An HTML page that needs nothing else: one file that opens from disk without a network, light and dark."""

from __future__ import annotations

from html import escape
from pathlib import Path


def document(title: str, body: str, style: str, script: str = "") -> str:
    """The page.

    Args:
        title: of the window, as plain text.
        body: markup of what is shown.
        style: CSS beside what all pages share (html.css).
        script: JavaScript, run when the body is there.
    """
    shared = Path(__file__).with_name("html.css").read_text(encoding="utf-8")
    run = f"<script>\n{script}</script>" if script else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title>\n<style>\n{shared}{style}</style></head>\n"
        f"<body><main>{body}</main>{run}</body></html>\n"
    )


def text(value: str) -> str:
    """Plain text as it can stand in a page, whatever it holds."""
    return escape(printable(value))


def printable(value: str) -> str:
    """A name on one line, whatever it holds: what cannot be printed is written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
