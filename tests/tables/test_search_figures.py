"""The figures of the search before a table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from made_up import config, put, result

from fer_lightning.core.colours import VERMILLION
from fer_lightning.tables.analysis.rows import Row, load
from fer_lightning.tables.output.page import figure_style, search
from fer_lightning.tables.output.page.section import Section

LR, LAMBDA = "optimizer.lr", "loss.weight"
POINTS = [[0.0003, 0.1], [0.001, 0.001], [0.02, 0.5]]


def searched(
    method: str, points: list[list[Any]] = POINTS, keys: tuple[str, ...] = (LR, LAMBDA)
) -> dict[str, Any]:
    """An item of table.json's search, of which the second point was chosen."""
    scores = [[0.4 + 0.05 * k, 0.42 + 0.05 * k] for k in range(len(points))]
    chosen = min(1, len(points) - 1)
    told = {"method": method, "keys": [*keys], "points": points, "scores": scores}
    return {**told, "chosen": chosen, "edge": [], "second": 0.01}


def drawn(searches: list[dict[str, Any]], rows: tuple[Row, ...] = ()) -> Section:
    with mpl.rc_context(figure_style.STYLE):  # type: ignore[arg-type]
        return search.section(searches, rows)


def texts(svg: str) -> list[str]:
    """The words of a figure, in the order of drawing."""
    return [text for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg) if text.strip()]


@pytest.fixture
def rows(tmp_path: Path) -> tuple[Row, ...]:
    """Center and cluster, which have a rule, weighted cluster by two rules, and a row that has none."""
    losses = [("center", "none", "running"), ("cluster", "none", "running"), ("softmax", "none", None)]
    losses += [("cluster", "min_over_count", rule) for rule in ("running", "exact")]
    for k, (loss, weights, rule) in enumerate(losses):
        own = {"_target_": f"losses.{loss}", "weight": 0.1 * k, "center_update": rule}
        groups = {"loss": own, "optimizer": {"lr": 0.01 * (k + 1)}}
        put(tmp_path, f"a{k}", result(0.5, config(loss, weights, **groups)))
    return load(tmp_path).rows


def test_two_numbers_are_a_panel_a_row_on_one_scale(rows: tuple[Row, ...]) -> None:
    methods = [row.method for row in rows if row.loss != "softmax"]
    found = drawn([*map(searched, methods), searched("softmax", [[0.01], [0.1]], (LR,))], rows)
    plane, line = found.pictures
    assert found.facts == {"apart": 1, "others": 1}
    assert len(re.findall(f"<use [^>]*stroke: {VERMILLION}", plane.svg)) == 4  # a ring in each panel
    assert texts(plane.svg).count("mean macro recall on the minival, %") == 1
    assert "0.0003, 0.1: 41.0; 0.001, 0.001: 46.0; 0.02, 0.5: 51.0" in plane.description
    assert "optimizer.lr=0.001, loss.weight=0.001 was chosen." in plane.description
    assert "macro recall, %" in texts(line.svg)


def test_rows_that_differ_in_their_centers_rule_alone_are_side_by_side(rows: tuple[Row, ...]) -> None:
    methods = [row.method for row in rows if row.loss != "softmax"]
    plane = drawn([searched(method) for method in methods], rows).pictures[0]
    rules = [text for text in texts(plane.svg) if text.endswith("centers")]
    assert rules == ["running centers", "exact centers", "running centers", "running centers"]
    order = sorted(methods, key=lambda method: max(plane.description.find(f". {method} ("), 0))
    weighted = {row.method for row in rows if row.class_weights != "none"}
    assert set(order[:2]) == weighted


def test_each_pair_of_keys_has_a_figure(rows: tuple[Row, ...]) -> None:
    others = [searched("a"), searched("b", keys=(LR, "loss.gamma")), searched("c")]
    names = [picture.name for picture in drawn(others).pictures]
    assert names == ["search-plane-01", "search-plane-02"]


@pytest.mark.parametrize(
    ("points", "keys"),
    [
        ([[0.1, 0.1]], (LR, LAMBDA)),
        ([[0.1, 0.5], [0.1, 0.5]], (LR, LAMBDA)),
        ([[0.0, -1.0], [0.1, 0]], (LR, LAMBDA)),
        ([[1e-9, 1], [1e9, 2]], (LR, LAMBDA)),
        ([[0.1, "exact"], [0.2, "running"]], (LR, "loss.center_update")),
        ([[0.1, True], [0.2, False]], (LR, "optimizer.nesterov")),
        ([[0.1, 0.2, 0.3], [0.2, 0.3, 0.4]], (LR, LAMBDA, "loss.gamma")),
        ([[0.1], [0.1]], (LR,)),
        ([[0], [3]], (LR,)),
    ],
)
def test_whatever_was_tried_is_drawn(points: list[list[Any]], keys: tuple[str, ...]) -> None:
    one = searched("m", points, keys)
    one["scores"] = [[0.5]] * len(points)
    (picture,) = drawn([one]).pictures
    assert ": 50.0" in picture.description
    assert "nan" not in picture.svg
    assert f"stroke: {VERMILLION}" in picture.svg


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0003, 0.03, [0.001, 0.01]),
        (1e-5, 1.0, [1e-5, 1e-3, 1e-1]),
        (0.002, 0.02, [0.003, 0.01]),
        (0.2, 0.3, [0.2, 0.3]),
        (0.13, 0.17, [0.13, 0.17]),
        (5.0, 5.0, [5.0]),
    ],
)
def test_ticks_are_few_and_round(low: float, high: float, ticks: list[float]) -> None:
    assert figure_style._round_numbers(low, high, 3) == pytest.approx(ticks)
