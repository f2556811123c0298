"""The README files: their links lead somewhere, and their commands are understood as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("[cefst]*/**/README.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """The anchors that a forge makes of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(page: Path) -> list[list[str]]:
    """The words of every command of a page's indented blocks."""
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^    ((?:fer|make) .*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def test_all_pages_are_found() -> None:
    assert {str(page.relative_to(ROOT)) for page in PAGES} >= {
        *("README.md", "conf/README.md", "experiments/README.md", "fer_lightning/README.md", "tests/README.md"),
        *("fer_lightning/sweeps/README.md", "fer_lightning/training/loggers/README.md"),
    }


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@every_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for words in commands(page) if words[0] == "make"} | {
        *re.findall(r"`make ([\w-]+)", page.read_text())
    }
    assert named <= targets


def test_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130
