"""The report in a browser, from disk and without a network."""

import re
import shutil
from pathlib import Path

import pytest
from furnished import reported

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


@pytest.fixture(scope="module")
def report():
    return reported()[1][-1]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def opened(browser, report):
    """Opens the report, and fails where it asks for anything else or complains."""
    wrong, contexts = [], []

    def open_it(**how):
        context = browser.new_context(**how)
        contexts.append(context)
        context.set_offline(True)
        view = context.new_page()
        view.on("request", lambda r: wrong.append(r.url) if r.url != report.as_uri() else None)
        view.on("console", lambda said: wrong.append(said.text))
        view.on("pageerror", lambda error: wrong.append(str(error)))
        view.goto(report.as_uri())
        return view

    yield open_it
    for context in contexts:
        context.close()
    assert not wrong


def column(view, place):
    return [
        line.split("±")[0].strip()
        for line in view.locator(f"#table tbody td:nth-child({place})").all_inner_texts()
    ]


def test_a_click_and_a_key_sort_the_table(opened):
    view = opened()
    heading = view.locator("#table thead th", has_text="Macro recall").first
    button = heading.get_by_role("button")
    place = 1 + heading.evaluate("one => one.cellIndex")
    before = column(view, place)
    button.click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert column(view, place) == sorted(before, key=float, reverse=True)
    assert column(view, place) != before
    button.focus()
    view.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column(view, place) == sorted(before, key=float)
    first = view.locator("#table thead th").first
    first.get_by_role("button").press("Space")
    assert first.get_attribute("aria-sort")
    assert heading.get_attribute("aria-sort") is None
    names = view.locator("#table tbody tr > :first-child").all_inner_texts()
    assert names == sorted(names, reverse=True)


def test_the_chosen_rows_matrices_and_their_difference_are_shown(opened):
    view = opened()
    runs = view.locator("#confusion-matrix tbody td")
    row, minus = view.get_by_label("Row"), view.get_by_label("minus")
    first = runs.all_inner_texts()
    row.select_option(index=5)
    other = runs.all_inner_texts()
    assert other != first
    minus.select_option(label="softmax")
    signed = runs.all_inner_texts()
    assert "minus softmax, points" in view.locator("#confusion-matrix caption").inner_text()
    for a, b, difference in zip(other, first, signed, strict=True):
        assert float(difference.replace("−", "-")) == pytest.approx(float(a) - float(b), abs=0.11)
    assert any(value.startswith("+") for value in signed)
    assert any(value.startswith("−") for value in signed)
    plus = view.locator("#confusion-matrix td.more").first.evaluate("one => getComputedStyle(one).backgroundColor")
    less = view.locator("#confusion-matrix td", has_text="−").first.evaluate(
        "one => getComputedStyle(one).backgroundColor"
    )
    assert plus != less
    row.select_option(label="softmax")
    assert set(runs.all_inner_texts()) == {"0.0"}


def luminance(colour):
    """Relative luminance (WCAG 2.2) of a computed colour."""
    numbers = [float(number) for number in re.findall(r"[0-9.]+", colour)][:3]
    scaled = [n if colour.startswith("color(") else n / 255 for n in numbers]
    linear = [n / 12.92 if n <= 0.04045 else ((n + 0.055) / 1.055) ** 2.4 for n in scaled]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


CONTRASTS = """() => [...document.querySelectorAll(
    "h1, .verdict, section > p, nav a, figcaption, dt, summary, #table th, td, svg text"
)].map(one => {
    const style = getComputedStyle(one);
    let under = one;
    while (getComputedStyle(under).backgroundColor === "rgba(0, 0, 0, 0)") under = under.parentElement;
    const colour = one.closest("svg") ? style.fill : style.color;
    return [one.tagName + " " + one.textContent.slice(0, 30), colour, getComputedStyle(under).backgroundColor];
})"""


DEEPEST = """() => document.querySelectorAll("#confusion-matrix td").forEach((one, k) => {
    one.style.setProperty("--share", 100);
    one.classList.toggle("more", k % 2);
})"""


def test_light_and_dark_have_enough_contrast(opened):
    grounds = set()
    for scheme in ("light", "dark"):
        view = opened(color_scheme=scheme)
        view.evaluate(DEEPEST)
        grounds.add(view.evaluate("getComputedStyle(document.body).backgroundColor"))
        found = view.evaluate(CONTRASTS)
        assert len(found) > 200
        for what, colour, ground in found:
            low, high = sorted([luminance(colour), luminance(ground)])
            assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, what, colour, ground)
    assert len(grounds) == 2


@pytest.mark.parametrize("width", [390, 1200])
def test_only_a_tables_own_container_scrolls_sideways(opened, width):
    view = opened(viewport={"width": width, "height": 800})
    view.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    assert view.evaluate("document.documentElement.scrollWidth") == width
    wide = """() => [...document.querySelectorAll("body *")].filter(one => !one.closest(".scroll, svg")
        && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 80))"""
    assert view.evaluate(wide) == []
    sizes = """() => [...document.querySelectorAll("svg text")].map(one => {
        const { a, b } = one.getScreenCTM();
        return Math.hypot(a, b) * parseFloat(getComputedStyle(one).fontSize);
    })"""
    assert min(view.evaluate(sizes)) > 8.5


def test_every_figure_has_words_and_no_letter_is_cut_off(opened):
    view = opened()
    figures = view.get_by_role("img")
    assert figures.count() == view.locator("figure svg").count() > 20
    assert all(len(figure.get_attribute("aria-label")) > 20 for figure in figures.all())
    outside = """() => [...document.querySelectorAll("figure svg text")].filter(one => {
        const [box, own] = [one.ownerSVGElement.getBoundingClientRect(), one.getBoundingClientRect()];
        const across = own.left < box.left - 1 || own.right > box.right + 1;
        return across || own.top < box.top - 1 || own.bottom > box.bottom + 1;
    }).map(one => one.textContent)"""
    assert view.evaluate(outside) == []


def test_without_scripts_the_first_matrix_is_there(opened):
    view = opened(java_script_enabled=False)
    assert view.locator("#confusion-matrix tbody td").count() == 64
    assert not view.get_by_label("minus").is_visible()
    assert "Without JavaScript" in view.locator("#confusion").inner_text()


def test_it_prints(opened, tmp_path: Path):
    view = opened(color_scheme="dark")
    (tmp_path / "report.pdf").write_bytes(view.pdf())
    assert (tmp_path / "report.pdf").stat().st_size > 50_000
    view.emulate_media(media="print")
    assert luminance(view.evaluate("getComputedStyle(document.body).color")) < 0.1
    assert luminance(view.evaluate("getComputedStyle(document.body).backgroundColor")) == pytest.approx(1)
    assert view.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"
