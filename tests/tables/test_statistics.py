"""The numbers of a table: intervals over seeds and images, their coverage, and corrected p-values."""

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from scipy.special import ndtr
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests

from fer_lightning.evaluation.metrics import METRICS, macro_recall
from fer_lightning.evaluation.resampling import percentile_interval, resampled_confusions
from fer_lightning.tables.analysis.statistics import (
    Estimate,
    estimate,
    mcnemar,
    simultaneous,
    standard_error_over_images,
)

VALUES = [0.61, 0.64, 0.60, 0.63]


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_without_images_it_is_the_t_interval(level):
    test = scipy_stats.ttest_1samp(VALUES, 0.6)
    low, high = test.confidence_interval(level)
    found = estimate(VALUES)
    assert (found.mean, found.half_width(level)) == pytest.approx(((low + high) / 2, (high - low) / 2))
    assert estimate(np.subtract(VALUES, 0.6)).p_value() == pytest.approx(test.pvalue)


def test_one_seed_says_nothing():
    for found in (estimate([0.6]), estimate([])):
        assert all(map(math.isnan, (found.half_width(), found.low, found.p_value())))
    assert estimate([0.6]).mean == 0.6


LABELS = np.repeat([0, 1, 2], (30, 12, 7))


def slow_image_part(influences):
    """What the images add, by loops, class by class."""
    seeds = len(influences)
    image = residual = 0.0
    for label in (0, 1, 2):
        own = influences[:, label == LABELS]
        size = own.shape[1]
        by_seed, by_image, all_of_it = own.mean(1), own.mean(0), own.mean()
        between = sum((by_image[i] - all_of_it) ** 2 for i in range(size)) / (size - 1)
        left = sum(
            (own[s, i] - by_seed[s] - by_image[i] + all_of_it) ** 2 for s in range(seeds) for i in range(size)
        ) / ((size - 1) * (seeds - 1))
        image, residual = image + size * between, residual + size * left
    return image - residual / seeds


def test_what_images_add_is_that_of_a_two_way_anova_in_each_class():
    random = np.random.default_rng(0)
    influences = random.normal(size=(5, 1)) + random.normal(size=49) + 0.5 * random.normal(size=(5, 49))
    values = random.normal(size=5)
    found = estimate(values, influences, LABELS)
    assert found.image == pytest.approx(slow_image_part(influences))
    assert found.between == pytest.approx(values.var(ddof=1))
    moved = influences + np.array([3.0, -1.0, 0.5])[LABELS] * random.normal(size=(5, 1))
    assert estimate(values, moved, LABELS) == pytest.approx(found)  # a constant of a class and seed says nothing


def test_all_variance_from_images_that_are_answered_alike():
    """Every seed gives the same answers: then macro recall has the error that the images alone give it."""
    right = np.random.default_rng(1).random(49) < 0.6
    sizes = np.bincount(LABELS)
    found = estimate([0.6] * 4, np.tile((right / sizes[LABELS] / 3), (4, 1)), LABELS)
    hits = np.bincount(LABELS, right)
    confusion = np.diag(hits) + np.roll(np.diag(sizes - hits), 1, axis=1)
    unbiased = [h * (n - h) / n**2 / (n - 1) for h, n in zip(hits, sizes, strict=True)]  # r (1 - r) / (n - 1)
    assert found.error == pytest.approx(math.sqrt(sum(unbiased)) / 3)
    assert found.error == pytest.approx(standard_error_over_images(confusion), rel=0.06)
    assert found.half_width() == pytest.approx(1.959964 * found.error)


def test_an_interval_is_made_of_two_parts():
    found = Estimate(0.1, 4, between=0.0016, image=0.0003)
    t = scipy_stats.t.ppf(0.975, 3)
    assert found.half_width() == pytest.approx(math.sqrt(t**2 * 0.0016 / 4 + 1.959964**2 * 0.0003))
    assert found.error == pytest.approx(math.sqrt(0.0016 / 4 + 0.0003))
    assert found.half_width(seeds=9) == pytest.approx(
        math.sqrt(scipy_stats.t.ppf(0.975, 8) ** 2 * 0.0016 / 9 + 1.959964**2 * 0.0003)
    )


def test_p_is_where_the_interval_ends_at_zero():
    found = Estimate(0.05, 5, between=0.0009, image=0.0002)
    assert found.half_width(1 - found.p_value()) == pytest.approx(0.05)
    assert Estimate(0.0, 5, between=0.0).p_value() == 1
    assert Estimate(0.1, 5, between=0.0).p_value() < 1e-9


@pytest.mark.parametrize("mean", [0.004, 0.01, 0.03])
def test_seeds_to_settle_are_the_fewest(mean):
    found = Estimate(mean, 3, between=0.0004, image=1e-6)
    count = found.seeds_to_settle(0.99)
    assert count is not None
    assert found.half_width(0.99, count) < mean
    assert count == 2 or found.half_width(0.99, count - 1) >= mean
    assert found.seeds_to_settle(0.99, least=1000) >= 1000


def test_no_number_of_seeds_settles_what_the_images_hide():
    hidden = Estimate(0.01, 5, between=0.0001, image=0.006**2)  # 1.96 x 0.6 points are more than 1
    assert hidden.seeds_to_settle() is None
    assert hidden._replace(image=0.005**2).seeds_to_settle() is not None
    assert Estimate(0.0, 5, between=0.0001).seeds_to_settle() is None


def test_p_values_of_a_family_are_bonferronis():
    random = np.random.default_rng(0)
    for count in (1, 2, 7):
        gaps = [estimate(random.normal(0.5, 1, 5)) for _ in range(count)]
        expected = multipletests([gap.p_value() for gap in gaps], method="bonferroni")[1]
        assert [gap.p_value(count) for gap in gaps] == pytest.approx(expected)
    assert simultaneous(4) == pytest.approx(0.9875)


def test_mcnemar_is_that_of_statsmodels():
    random = np.random.default_rng(0)
    first, second = random.random(300) < 0.7, random.random(300) < 0.6
    found = mcnemar(first, second)
    runs = [[found.both, found.first], [found.second, found.neither]]
    assert runs == [[int(np.sum((first == a) & (second == b))) for b in (True, False)] for a in (True, False)]
    assert found.p == pytest.approx(contingency_tables.mcnemar(runs, exact=True).pvalue)
    assert mcnemar(first, first).p == 1


def test_standard_error_over_images_by_hand():
    # recalls 0.8 of 100 and 0.5 of 50; the third class has no image
    confusion = [[80, 20, 0], [25, 25, 0], [0, 0, 0]]
    assert standard_error_over_images(confusion) == pytest.approx(math.sqrt(0.16 / 100 + 0.25 / 50) / 2)


def test_standard_error_over_images_is_that_of_redrawn_images():
    recall, sizes = np.array([0.9, 0.6, 0.3]), np.array([400, 80, 20])
    hits = np.random.default_rng(0).binomial(sizes, recall, size=(40_000, 3))
    simulated = (hits / sizes).mean(1).std()
    right = recall * sizes
    confusion = np.diag(right) + np.roll(np.diag(sizes - right), 1, axis=1)
    assert standard_error_over_images(confusion) == pytest.approx(simulated, rel=0.02)


SIZES = np.array([150, 60, 16])
PICTURES = np.repeat([0, 1, 2], SIZES)
PLACE = np.array([0.8, 0.2, -0.6])


def simulated(random, seeds, methods, spread):
    """Macro recall (S,) and influences (S, n) of equal methods; truth is theirs over all seeds and pictures."""
    difficulty = random.standard_normal(len(PICTURES))
    found = []
    for _ in range(methods):
        chance = 0.6 * random.standard_normal((seeds, len(PICTURES))) + spread * random.standard_normal((seeds, 1))
        influences = (PLACE[PICTURES] + difficulty + chance > 0) / (3 * SIZES[PICTURES])
        found.append((influences.sum(1), influences))
    return found, float(ndtr(PLACE / math.sqrt(1 + 0.36 + spread**2)).mean())


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("spread", [0.02, 0.1])
def test_an_interval_over_seeds_and_images_covers(seeds, spread):
    """A short version of experiments/benchmarks/coverage.py; of one row, and of the difference of two."""
    random, repeats = np.random.default_rng(0), 1500
    hits = np.zeros(3)
    for _ in range(repeats):
        ((first, its), (second, others)), truth = simulated(random, seeds, 2, spread)
        one, gap = estimate(first, its, PICTURES), estimate(first - second, its - others, PICTURES)
        away = abs(one.mean - truth)
        hits += [away < one.half_width(), abs(gap.mean) < gap.half_width(), away < estimate(first).half_width()]
    assert all(0.93 < share < 0.975 for share in hits[:2] / repeats), hits / repeats
    assert hits[2] / repeats < 0.93  # the seeds alone do not hold the images


def test_equal_methods_are_seldom_told_apart():
    """Of five methods that are the same, one against each other one, five seeds that differ by 2.5 points."""
    random, repeats, wrong = np.random.default_rng(1), 600, 0
    for _ in range(repeats):
        (one, *rest), _ = simulated(random, 5, 5, 0.1)
        gaps = [estimate(one[0] - other[0], one[1] - other[1], PICTURES) for other in rest]
        wrong += any(gap.is_decided(len(gaps)) for gap in gaps)
    assert wrong / repeats <= 0.05


COUNTS = np.array([[70, 30, 0], [10, 150, 40], [0, 0, 0]])


def test_resamples_keep_the_size_of_each_class():
    drawn = resampled_confusions(COUNTS)
    assert (drawn.sum(2) == COUNTS.sum(1)).all()
    np.testing.assert_allclose(drawn.mean(0), COUNTS, atol=0.5)
    assert drawn[:, 0, 2].max() == 0
    assert (resampled_confusions(COUNTS) == drawn).all()
    assert (resampled_confusions(COUNTS, seed=1) != drawn).any()


def test_the_interval_over_images_is_about_that_of_the_standard_error():
    low, high = percentile_interval(macro_recall(resampled_confusions(COUNTS)))
    assert (low + high) / 2 == pytest.approx(macro_recall(COUNTS), abs=0.005)
    assert (high - low) / 2 == pytest.approx(1.96 * standard_error_over_images(COUNTS), rel=0.05)


def test_an_interval_is_unknown_where_the_metric_is():
    alone = np.array([[5, 0], [0, 0]])
    assert all(map(math.isnan, percentile_interval(METRICS["cohen_kappa"].of_counts(resampled_confusions(alone)))))
