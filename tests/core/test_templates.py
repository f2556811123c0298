"""Templates: what comes from data stays text."""

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from fer_lightning.core.templates import render

ODD = "<script>\"&amp;'\n\u202e"


def test_values_are_escaped_in_html_and_stay_on_one_line(tmp_path: Path) -> None:
    file = tmp_path / "page.html.j2"
    file.write_text('<p title="{{ name }}">{{ names | listed }}</p>')
    escaped = "&lt;script&gt;&#34;&amp;amp;&#39;\\n\\u202e"
    assert render(file, name=ODD, names=[ODD, "b"]) == f'<p title="{escaped}">{escaped}, b</p>'


def test_values_are_as_they_are_in_other_texts(tmp_path: Path) -> None:
    file = tmp_path / "table.md.j2"
    file.write_text("{{ name }}")
    assert render(file, name=ODD) == ODD


def test_a_value_that_is_missing_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "page.html.j2"
    file.write_text("{{ nothing }}")
    with pytest.raises(UndefinedError, match="nothing"):
        render(file)
