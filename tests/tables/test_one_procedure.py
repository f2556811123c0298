"""Interval, p-value, verdict and print of a difference come from one procedure and never contradict each other."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import LABELS, config, declare, fill, put, result

from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.tables.analysis.comparisons import compare, contrasts, standing
from fer_lightning.tables.analysis.predictions import Pictures
from fer_lightning.tables.analysis.rows import Row, Table, load
from fer_lightning.tables.analysis.statistics import ALPHA, Estimate
from fer_lightning.tables.output import exports, verdicts
from fer_lightning.tables.output.columns import columns
from fer_lightning.tables.output.formats import p_value, points

ENDS = re.compile(r"interval (\S+) to (\S+) points")
BRACKETS = re.compile(r"\[(\S+), (\S+)\]")


def test_what_holm_decides_and_bonferronis_interval_does_not(tmp_path: Path) -> None:
    """The second of two comparisons has p = 0.04 alone: after Holm, too, since the first is far below 0.025."""
    base = np.array([0.60, 0.61, 0.62, 0.63, 0.60])
    near = base + np.array([0.026, 0.002, 0.012, 0.02, 0.006])
    far = base + np.array([0.2, 0.201, 0.202, 0.2, 0.201])
    rows = {("softmax", "none"): base, ("center", "none"): near, ("cluster", "none"): far}
    fill(tmp_path, {key: values.tolist() for key, values in rows.items()})
    pairs = [["cluster", "softmax"], ["center", "softmax"]]
    declare(tmp_path, [(row[0], *row) for row in rows], seeds=[*range(5)], contrasts=pairs)
    table = load(tmp_path)
    decided, undecided = verdicts.contrasts(table)
    assert 0.025 < contrasts(table)[1].gap.p_value() < 0.05
    assert "is decided" in decided
    assert "leave open which of the two is better" in undecided
    low, high = ends(ENDS, undecided)
    assert low < 0 < high


def test_an_interval_and_its_p_value_agree_to_the_last_bit() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        count = int(random.integers(1, 40))
        parts = (int(random.integers(2, 12)), *10 ** random.uniform(-8, -2, 2))
        half = Estimate(0.0, *parts).interval(count)[1]
        for mean in (half, math.nextafter(half, 0), math.nextafter(half, 1), half * random.uniform(0, 2)):
            gap = Estimate(math.copysign(mean, random.uniform(-1, 1)), *parts)
            low, high = gap.interval(count)
            excluded = low > 0 or high < 0
            assert gap.excludes_zero(count) == excluded == (gap.p_value(count) < ALPHA) == (mean > half)
            assert gap.is_decided(count) == (excluded and gap.seeds >= 5)
            shown = [read(points(end)) for end in (low, high)]
            assert (shown[0] > 0 or shown[1] < 0) == excluded
            assert read_p(p_value(gap.p_value(count))) == excluded


@pytest.mark.parametrize(
    ("value", "shown", "p"),
    [
        (0.0004, "0.04", "p < 0.001"),
        (-0.00001, "−0.001", "p < 0.001"),
        (0.0005, "0.1", "p < 0.001"),
        (0.012, "1.2", "p = 0.012"),
        (0.0496, "5.0", "p < 0.05"),
        (0.0504, "5.0", "p > 0.05"),
        (0.05, "5.0", "p = 0.050"),
        (0.0495, "5.0", "p < 0.05"),
        (0.0, "0.0", "p < 0.001"),
        (math.nan, "–", "p = nan"),
    ],
)
def test_rounding_never_hides_the_side(value: float, shown: str, p: str) -> None:
    assert points(value) == shown
    assert p_value(abs(value)) == p


def made_up_row(random: np.random.Generator, name: str, values: np.ndarray, pictures: Pictures | None) -> Row:
    """Return a row with these values in every metric."""
    nothing: dict[str, Any] = {"class_recall": {}, "center_drift": {}, "corrected": {}, "published": None}
    return Row(
        method=name,
        loss="softmax",
        class_weights="none",
        stage="",
        seeds=tuple(range(len(values))),
        planned=len(values),
        abstract=False,
        posthoc=None,
        plain=name == "row 0",
        values=dict.fromkeys(METRICS, values),
        optimism=np.array([]),
        pictures=pictures,
        runs=(),
        **nothing,
    )


def made_up_table(random: np.random.Generator) -> Table:
    """Return rows whose differences are near the ends of their intervals, some with predictions."""
    seeds, count = int(random.integers(2, 9)), int(random.integers(2, 6))
    right = random.random(len(LABELS)) < 0.7
    rows = []
    for k in range(count):
        answers = np.where(random.random((seeds, len(LABELS))) < 0.9, right, ~right)
        pictures = Pictures(3, LABELS, {"": np.where(answers, LABELS, (LABELS + 1) % 3)})
        values = (
            0.6 + random.choice([0.0, 0.002, 0.02]) * k + random.choice([1e-4, 0.01]) * random.normal(size=seeds)
        )
        rows.append(made_up_row(random, f"row {k}", values, pictures if random.random() < 0.5 else None))
    pairs = [(f"row {a}", f"row {b}") for a in range(count) for b in range(count) if a != b]
    declared = [pairs[k] for k in random.permutation(len(pairs))[: random.integers(0, len(pairs))]]
    table = _table(tuple(rows), tuple(declared))
    pair = compare(table, rows[1], rows[0])
    if seeds > 1 and pair.interval[1] > pair.gap.mean and random.random() < 0.5:  # close to either side of the end
        moved = (
            pair.interval[1]
            - pair.gap.mean
            - pair.gap.mean
            + random.choice([-1, 1]) * 10 ** random.uniform(-9, -3)
        )
        rows[1] = made_up_row(random, "row 1", rows[1].values["macro_recall"] + moved, rows[1].pictures)
        table = _table(tuple(rows), tuple(declared))
    return table


def _table(rows: tuple[Row, ...], declared: tuple[tuple[str, str], ...]) -> Table:
    return Table(
        directory=Path(),
        title="",
        notes=(),
        substitute=None,
        rows=rows,
        metrics=("macro_recall", "ece"),
        contrasts=declared,
        seeds=rows[0].seeds,
        protocol={},
        provenance=[],
        train_counts={},
        left_out=(0, 0, 0),
        images=len(LABELS),
        image_error=0.02,
        seconds=0.0,
        strays=0,
    )


def read(text: str) -> float:
    return float(text.replace("−", "-"))


def read_p(text: str) -> bool:
    """Return whether a printed p-value is below ALPHA."""
    _, sign, number = text.split()
    return float(number) < ALPHA if sign == "=" else sign == "<" and float(number) <= ALPHA


def ends(pattern: re.Pattern[str], text: str) -> tuple[float, float]:
    """Return the ends of the only interval in a text."""
    ((low, high),) = pattern.findall(text)
    return read(low), read(high)


def check_sentence(line: str, seeds: int) -> bool:
    """Return whether a difference is decided, after a check that all of its sentence says so."""
    low, high = ends(ENDS, line)
    excluded = low > 0 or high < 0
    decided = "is decided" in line
    assert decided == (excluded and seeds >= 5), line
    assert ("leave open" in line) == (not excluded), line
    if decided:
        (printed,) = re.findall(r"p [=<>] [\d.]*\d", line)
        assert read_p(printed), line
        above = "points above" in line
        assert above == (low > 0), line
    return decided


@pytest.mark.parametrize("seed", range(10))
def test_all_that_a_table_shows_of_a_pair_is_one_answer(seed: int) -> None:
    random = np.random.default_rng(seed)
    kinds = set()
    for _ in range(30):
        table = made_up_table(random)
        seeds = len(table.seeds)
        base, declared = table.rows[0], contrasts(table)
        shown = {c.heading.partition(" [")[0]: c.entries for c in columns(table)}
        over = dict(zip(table.rows, shown["Over baseline"], strict=True))
        for pair, line in zip(declared, verdicts.contrasts(table), strict=True):
            decided = check_sentence(line, seeds)
            low, high = pair.interval
            assert pair.decided == decided
            assert (low > 0 or high < 0) == (pair.p < ALPHA)
            if pair.other is base:  # the same pair in the column has the same interval
                assert ends(BRACKETS, over[pair.row].text) == ends(ENDS, line)
            kinds.add(decided)
        check_sentence(verdicts.verdict(table), seeds)
        for row, entry in over.items():
            if row is not base:
                low, high = ends(BRACKETS, entry.text)
                assert (low > 0 or high < 0) == (compare(table, row, base).p < ALPHA)
        column = standing(table, "macro_recall")
        assert (column is None) == (seeds < 5)
        if column:
            for row in set(table.rows) - {column.best}:
                assert (row in column.equal) != compare(table, column.best, row).decided
    assert kinds == {True, False}


def test_a_row_that_is_better_on_the_shared_seeds_is_not_shown_to_be_worse(tmp_path: Path) -> None:
    """The best mean is that of other seeds: on those that both have the order is the opposite, and decided."""
    for seed in range(12):
        if seed < 11:
            value = 0.50 + 0.001 * (seed % 3) if seed < 5 else 0.90
            put(tmp_path, f"a{seed}", result(value, config("softmax", "none", seed)))
        if seed < 5:
            value = 0.60 + 0.001 * (seed % 2)
            put(tmp_path, f"b{seed}", result(value, config("cluster", "none", seed)))
    rows = [("softmax", "softmax", "none"), ("cluster", "cluster", "none")]
    declare(tmp_path, rows, seeds=[*range(11)])
    table = load(tmp_path)
    column = standing(table, "macro_recall")
    assert column is not None
    assert compare(table, *table.rows).decided
    assert column == (table.rows[0], frozenset({table.rows[1]}))


def test_the_procedure_is_named_at_the_foot(tmp_path: Path) -> None:
    values = [0.60, 0.61, 0.62, 0.63, 0.60]
    fill(tmp_path, {("softmax", "none"): values, ("center", "none"): values, ("cluster", "none"): values[::-1]})
    rows = [(loss, loss, "none") for loss in ("softmax", "center", "cluster")]
    declare(tmp_path, rows, seeds=[*range(5)], contrasts=[["cluster", "softmax"]])
    text = exports.to_markdown(load(tmp_path))
    assert "tested by one procedure, Bonferroni's" in text
    assert "m is 1 for the comparisons that the table was made for" in text
    assert "m is 2 for the other comparisons of the best row or the baseline with all other rows." in text
    assert "Holm" not in text
