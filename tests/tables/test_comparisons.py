"""Rows held against one another."""

import json
import math

import numpy as np
import pytest
from made_up import LABELS, answering, answers, config, declare, fill, predicted, put, result
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.tables.analysis.comparisons import contrasts, difference, own, standing
from fer_lightning.tables.analysis.rows import load
from fer_lightning.tables.output.formats import percent
from fer_lightning.tables.output.verdicts import contrasts as said
from fer_lightning.tables.output.verdicts import verdict

PLAIN, CENTER, CLUSTER = ("softmax", "none"), ("center", "none"), ("cluster", "none")
ROWS = [("softmax", *PLAIN), ("center", *CENTER), ("cluster", *CLUSTER)]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Center is as softmax, cluster far better; with predictions."""
    folder = tmp_path_factory.mktemp("three")
    answering(folder, {PLAIN: 0.6, CENTER: 0.6, CLUSTER: 0.85})
    pairs = [["cluster", "softmax"], ["center", "softmax"], ["cluster", "center"], ["center", "not run"]]
    declare(folder, ROWS, seeds=[*range(5)], contrasts=pairs)
    return load(folder)


def test_without_predictions_it_is_the_paired_t_test(tmp_path):
    first, second = [0.61, 0.66, 0.60], [0.58, 0.61, 0.59]
    fill(tmp_path, {PLAIN: second, CLUSTER: first})
    table = load(tmp_path)
    expected = scipy_stats.ttest_rel(first, second)
    gap = difference(table.rows[1], table.rows[0])
    assert (gap.low, gap.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert gap.p_value() == pytest.approx(expected.pvalue)


def test_a_difference_pairs_equal_seeds_only(tmp_path):
    for seed, value in {0: 0.50, 1: 0.51, 2: 0.52}.items():
        put(tmp_path, f"a{seed}", result(value, config("softmax", "none", seed)))
    for seed, value in {1: 0.61, 2: 0.63, 7: 0.99}.items():
        put(tmp_path, f"b{seed}", result(value, config("cluster", "none", seed)))
    plain, cluster = load(tmp_path).rows
    gap = difference(cluster, plain)
    assert gap.seeds == 2
    assert gap.mean == pytest.approx(0.105)


def leave_one_out(row, other, metric):
    """What images add to the variance, by leaving out one image of a class at a time: no derivatives."""

    def of(predictions, kept):
        counts = np.zeros((3, 3))
        sizes, total = np.bincount(LABELS), np.bincount(LABELS[kept], minlength=3)
        np.add.at(counts, (LABELS[kept], predictions[kept]), 1)
        return float(
            METRICS[metric].of_confusion(counts * (sizes / total)[:, None])
        )  # class sizes stay as they are

    def gap(kept):
        pairs = zip(row.pictures.predictions[""], other.pictures.predictions[""], strict=True)
        return np.mean([of(a, kept) - of(b, kept) for a, b in pairs])

    every, variance = np.arange(len(LABELS)), 0.0
    for label, size in enumerate(np.bincount(LABELS)):
        values = [gap(np.delete(every, place)) for place in every[label == LABELS]]
        variance += (size - 1) / size * np.sum((values - np.mean(values)) ** 2)
    return variance


def only_some_seeds(row, other, metric):
    """The part of a mean's variance that is from images on which the seeds do not agree."""
    gaps = row.pictures.influences(metric, range(5)) - other.pictures.influences(metric, range(5))
    variance = 0.0
    for label, size in enumerate(np.bincount(LABELS)):
        own = gaps[:, label == LABELS]
        left = own - own.mean(0) - own.mean(1, keepdims=True) + own.mean()
        variance += size * (left**2).sum() / ((size - 1) * 4) / 5
    return variance


@pytest.mark.parametrize("metric", [name for name in METRICS if METRICS[name].of_confusion])
def test_a_difference_holds_the_draw_of_the_images_as_the_jackknife_has_it(three, metric):
    plain, _, cluster = three.rows
    gap = difference(cluster, plain, metric)
    assert gap.mean == pytest.approx(cluster.mean(metric) - plain.mean(metric))
    assert gap.image + only_some_seeds(cluster, plain, metric) == pytest.approx(
        leave_one_out(cluster, plain, metric), rel=0.03
    )


def test_pairing_makes_a_difference_sharper_than_its_rows(three):
    plain, center, _ = three.rows
    gap = difference(center, plain)
    assert 0 < gap.image < own(plain).image + own(center).image


def test_metrics_of_probabilities_have_intervals_over_the_seeds_only(three):
    gap = difference(three.rows[1], three.rows[0], "auroc")
    assert gap.image == 0


def test_a_row_without_predictions_is_compared_over_the_seeds_only(tmp_path):
    answering(tmp_path, {PLAIN: 0.6, CLUSTER: 0.8})
    (tmp_path / "softmax-none-s3" / "predictions.parquet").unlink()
    table = load(tmp_path)
    cluster, plain = table.rows[-1], table.rows[0]
    expected = scipy_stats.ttest_rel(cluster.values["macro_recall"], plain.values["macro_recall"])
    assert difference(cluster, plain).p_value() == pytest.approx(expected.pvalue)
    assert own(cluster).image > 0 == own(plain).image


def test_contrasts_are_corrected_together(three):
    found = contrasts(three)
    assert [(one.row.method, one.other.method) for one in found] == [
        ("cluster", "softmax"),
        ("center", "softmax"),
        ("cluster", "center"),
    ]
    expected = multipletests([one.gap.p_value() for one in found], method="bonferroni")[1]
    assert [one.p for one in found] == pytest.approx(expected)
    assert [one.decided for one in found] == [True, False, True]
    for one in found:
        half = one.gap.half_width(1 - 0.05 / 3)
        assert one.interval == pytest.approx((one.gap.mean - half, one.gap.mean + half))


def test_contrasts_in_words(three):
    decided, undecided, _ = said(three)
    assert "points above softmax. The difference is decided (simultaneous 95 % interval " in decided
    assert decided.endswith(f"; p = {contrasts(three)[0].p:.3f}).")
    gap = contrasts(three)[1].gap
    half = gap.half_width(1 - 0.05 / 3)
    ends = f"{percent(gap.mean - half)} to {percent(gap.mean + half)} points"
    assert "These 5 seeds leave open which of the two is better; they only speak against differences" in undecided
    assert f"outside the simultaneous 95 % interval {ends}. " in undecided
    assert undecided.endswith(("seeds would decide it.", "a difference as small as this."))


def test_the_seeds_that_would_settle_it_are_named(tmp_path):
    fill(tmp_path, {PLAIN: [0.58, 0.61, 0.59, 0.60, 0.57], CLUSTER: [0.61, 0.60, 0.61, 0.61, 0.60]})
    declare(tmp_path, [ROWS[0], ROWS[2]], seeds=[*range(5)], contrasts=[["cluster", "softmax"]])
    gaps = np.array([0.03, -0.01, 0.02, 0.01, 0.03])
    count = next(  # over seeds only the interval is Student's
        n for n in range(5, 99) if scipy_stats.t.ppf(0.975, n - 1) * gaps.std(ddof=1) / math.sqrt(n) < gaps.mean()
    )
    assert f"stayed as they are, {count} seeds would decide it." in said(load(tmp_path))[0]


@pytest.mark.parametrize("high", [[0.60, 0.62, 0.61, 0.64], [0.70, 0.71, 0.72, 0.73]])
def test_four_seeds_decide_nothing(tmp_path, high):
    fill(tmp_path, {PLAIN: [0.60, 0.61, 0.62, 0.63], CLUSTER: high})
    declare(tmp_path, [ROWS[0], ROWS[2]], seeds=[*range(4)], contrasts=[["cluster", "softmax"]])
    table = load(tmp_path)
    for line in (said(table)[0], verdict(table)):
        assert "is decided" not in line
        assert "but do not decide it: that takes 5 seeds" in line or "These 4 seeds leave open" in line
    assert standing(table, "accuracy") is None


def test_the_best_of_a_column_and_those_not_shown_to_be_worse(three):
    plain, center, cluster = three.rows
    assert standing(three, "macro_recall") == (cluster, frozenset())
    low = standing(three, "ece")  # all the same, and lower is better
    assert low is not None
    assert low.equal == frozenset({plain, center, cluster} - {low.best})


def test_equal_rows_are_all_marked_as_equal(tmp_path):
    random = np.random.default_rng(0)
    difficulty = random.standard_normal(len(LABELS))
    for loss in ("softmax", "center", "cluster"):
        for seed, one in enumerate(answers(random, 0.7, 5, difficulty)):
            predicted(tmp_path, f"{loss}{seed}", config(loss, "none", seed), LABELS, one)
    declare(tmp_path, ROWS, seeds=[*range(5)])
    table = load(tmp_path)
    found = standing(table, "macro_recall")
    assert found is not None
    assert {found.best, *found.equal} == set(table.rows)


def test_a_column_of_a_correction_has_its_own_predictions(tmp_path):
    random = np.random.default_rng(0)
    difficulty = random.standard_normal(len(LABELS))
    for seed, (one, better) in enumerate(
        zip(answers(random, 0.6, 5, difficulty), answers(random, 0.8, 5, difficulty), strict=True)
    ):
        said_ = config("softmax", "none", seed)
        predicted(tmp_path, f"a{seed}", said_, LABELS, one, after={"logit_adjustment": better})
    rows = [("softmax", *PLAIN), ("rival", *PLAIN)]
    declare(tmp_path, rows, seeds=[*range(5)], metrics=["macro_recall", "logit_adjustment.macro_recall"])
    told = json.loads((tmp_path / "table.json").read_text())
    told["rows"][1]["posthoc"] = "logit_adjustment"
    (tmp_path / "table.json").write_text(json.dumps(told))
    plain, rival = load(tmp_path).rows
    assert plain.values["logit_adjustment.macro_recall"] == pytest.approx(rival.values["macro_recall"])
    assert np.isnan(rival.values["logit_adjustment.macro_recall"]).all()
    assert own(plain, "logit_adjustment.macro_recall") == pytest.approx(own(rival))
    assert own(rival).image > 0
