"""How often a table's 95 % intervals hold the truth, how often equal methods are told apart, and contradictions.

    python experiments/benchmarks/coverage.py --repeats 3000 --out experiments/benchmarks/coverage.json

Simulated, with the truth known: a picture of class k is answered rightly at a seed where the sum of z_k, the
seed's effect, the picture's difficulty and chance is positive. Two methods share most of a picture's difficulty
and nothing of the seeds' effects. ``ours`` is what the tables print
(fer_lightning.tables.analysis.statistics); the others are what it was chosen from:

- seeds: Student's t over the seeds
- bootstrap: percentiles of means of resampled seeds
- images: normal, the images' part alone
- quadrature: as ours, with the images' whole part, of which the seeds' variance holds some already
- satterthwaite: two-way analysis of variance, t with Satterthwaite's degrees of freedom, guarded by either part

A contradiction is a difference of a simulated table whose interval, interval as printed, p-value and verdict do
not agree.
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtrit
from telling import tell

from fer_lightning.tables.analysis.statistics import (
    ALPHA,
    SEEDS_TO_DECIDE,
    Estimate,
    FloatArray,
    IntArray,
    estimate,
)
from fer_lightning.tables.output.formats import points

RECALL = np.array([0.83, 0.87, 0.60, 0.80, 0.48, 0.28, 0.61, 0.125])
"""Of the eight classes, as softmax has on FERPlus."""

SIZES = {
    "8 x 500": np.full(8, 500),
    "as FERPlus, rarest 16": np.array([1100, 880, 420, 430, 75, 25, 245, 16]),
}
SEEDS = (3, 5, 10)
SPREADS = (0.3, 1.0, 2.5)
"""Standard deviation of the seeds' effect on macro recall, in points; chance is on top of it."""

DIFFICULTY, SHARED = 0.8, 0.9
"""The difficulty's share of what varies within a class, and the part of it that two methods have in common."""


class World:
    """Test pictures and methods that differ by their seeds.

    Args:
        sizes: test pictures of each class.
        spread: of the seeds, in points of macro recall.
        random: draws.
    """

    def __init__(self, sizes: IntArray, spread: float, random: np.random.Generator) -> None:
        self.labels = np.repeat(np.arange(len(sizes)), sizes)
        self.place = ndtri(RECALL)
        self.spread = spread / 100 / float(np.mean(np.exp(-(self.place**2) / 2) / math.sqrt(2 * math.pi)))
        self.random = random

    def truth(self, shift: float = 0.0) -> float:
        """Macro recall over all pictures and seeds there could be."""
        return float(ndtr((self.place + shift) / math.sqrt(1 + self.spread**2)).mean())

    def methods(self, seeds: int, shifts: tuple[float, ...]) -> list[Told]:
        """Methods on the same new pictures."""
        count = len(self.labels)
        shared = math.sqrt(DIFFICULTY * SHARED) * self._normal(count)
        found = []
        for shift in shifts:
            own = shared + math.sqrt(DIFFICULTY * (1 - SHARED)) * self._normal(count)
            effects = self.spread * self._normal(seeds, 1)
            chance = math.sqrt(1 - DIFFICULTY) * self._normal(seeds, count)
            right = chance + effects + (own + (self.place + shift)[self.labels]) > 0
            found.append(told(right, self.labels))
        return found

    def _normal(self, *shape: int) -> FloatArray:
        return self.random.standard_normal(shape, dtype=np.float32)


class Told(NamedTuple):
    """Values (S,) of macro recall, and influences of pictures (S, n)."""

    values: FloatArray
    influences: FloatArray


def told(right: npt.NDArray[np.bool_], labels: IntArray) -> Told:
    """Of macro recall an answer's influence is 1 / (C n_k) if it is right, and the value is their sum."""
    influences = right / (len(RECALL) * np.bincount(labels))[labels]
    return Told(influences.sum(1), influences)


def half_widths(values: FloatArray, influences: FloatArray, labels: IntArray) -> dict[str, float]:
    """Half of each interval that is symmetric about the mean."""
    ours = estimate(values, influences, labels)
    seeds = ours.seeds
    by_seed = ours.between / seeds
    image, image_df, residual, residual_df = parts(influences, labels)
    total = max(by_seed + image - residual, by_seed, image)
    freedom = total**2 / (by_seed**2 / (seeds - 1) + image_df + residual_df)
    t, normal = float(stdtrit(seeds - 1, 0.975)), float(ndtri(0.975))
    return {
        "ours": ours.half_width(),
        "seeds": t * math.sqrt(by_seed),
        "images": normal * math.sqrt(image),
        "quadrature": math.hypot(t * math.sqrt(by_seed), normal * math.sqrt(image)),
        "satterthwaite": float(stdtrit(freedom, 0.975)) * math.sqrt(total),
    }


def parts(influences: FloatArray, labels: IntArray) -> tuple[float, float, float, float]:
    """Variances of a mean from images, residual included, and from the residual, each followed by its share of
    Satterthwaite's denominator."""
    image = image_df = residual = residual_df = 0.0
    seeds = len(influences)
    for k, size in enumerate(np.bincount(labels)):
        own = influences[:, labels == k]
        own = own - own.mean(1, keepdims=True)
        common = own.mean(0)
        by_image = size * (common**2).sum() / (size - 1)
        rest = size * ((own - common) ** 2).sum() / ((size - 1) * (seeds - 1)) / seeds
        image, image_df = image + by_image, image_df + by_image**2 / (size - 1)
        residual, residual_df = residual + rest, residual_df + rest**2 / ((size - 1) * (seeds - 1))
    return image, image_df, residual, residual_df


def coverage(
    world: World, seeds: int, repeats: int, *, paired: bool, shift: float = 0.05
) -> tuple[dict[str, float], int]:
    """Share of the intervals that hold the truth, by method, of one row or a difference, and contradictions."""
    truth = world.truth(shift) - world.truth() if paired else world.truth()
    hits: dict[str, int] = {}
    wrong = 0
    for _ in range(repeats):
        rows = world.methods(seeds, (shift, 0.0) if paired else (0.0,))
        values, influences = rows[0]
        if paired:
            values, influences = values - rows[1].values, influences - rows[1].influences
            wrong += contradicts(estimate(values, influences, world.labels), 1)
        for name, half in half_widths(values, influences, world.labels).items():
            hits[name] = hits.get(name, 0) + (abs(values.mean() - truth) <= half)
        means = values[world.random.integers(0, seeds, (400, seeds))].mean(1)
        low, high = np.quantile(means, (0.025, 0.975))
        hits["bootstrap"] = hits.get("bootstrap", 0) + bool(low <= truth <= high)
    return {name: round(count / repeats, 4) for name, count in hits.items()}, wrong


def contradicts(gap: Estimate, count: int) -> bool:
    """Whether what is said of one of ``count`` differences does not agree."""
    low, high = gap.interval(count)
    printed = [float(points(end).replace("−", "-")) for end in (low, high)]
    excluded = low > 0 or high < 0
    agree = (printed[0] > 0 or printed[1] < 0) == excluded == (gap.p_value(count) < ALPHA)
    return not (agree and gap.is_decided(count) == (excluded and gap.seeds >= SEEDS_TO_DECIDE))


def told_apart(world: World, seeds: int, methods: int, repeats: int) -> dict[str, float]:
    """How often equal methods are told apart.

    Returns:
        ``contrasts``: the first is told from any other one. ``marks``: the first, which is as good as the best, is
        shown to be worse than the one with the highest mean. ``contradictions``: see ``contradicts``.
    """
    contrasts = marks = wrong = 0
    for _ in range(repeats):
        rows = world.methods(seeds, (0.0,) * methods)
        declared = gaps(rows, 0, world.labels)
        contrasts += any(gap.is_decided(methods - 1) for gap in declared.values())
        best = int(np.argmax([row.values.mean() for row in rows]))
        others = gaps(rows, best, world.labels)
        marks += best != 0 and others[0].is_decided(methods - 1)
        wrong += sum(contradicts(gap, methods - 1) for gap in (*declared.values(), *others.values()))
    shares = {"contrasts": round(contrasts / repeats, 4), "marks": round(marks / repeats, 4)}
    return {**shares, "contradictions": wrong}


def gaps(rows: list[Told], first: int, labels: IntArray) -> dict[int, Estimate]:
    """Of the comparisons of one row with all others, by the other's place."""
    one = rows[first]
    return {
        k: estimate(one.values - other.values, one.influences - other.influences, labels)
        for k, other in enumerate(rows)
        if k != first
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000, help="of each of the 36 cases; takes three minutes")
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    cases, contradictions = [], 0
    for paired, (name, sizes), seeds, spread in itertools.product((False, True), SIZES.items(), SEEDS, SPREADS):
        found, wrong = coverage(World(sizes, spread, random), seeds, options.repeats, paired=paired)
        contradictions += wrong
        what = "difference of two rows" if paired else "one row"
        cases.append({"what": what, "images": name, "seeds": seeds, "spread": spread, "coverage": found})
        print(what, name, seeds, spread, found, flush=True)
    ranges = {
        name: {
            label: [min(values), max(values)]
            for label, chosen in (("all", SEEDS), ("5 seeds and more", SEEDS[1:]))
            for values in [[case["coverage"][name] for case in cases if case["seeds"] in chosen]]
        }
        for name in cases[0]["coverage"]
    }
    equal = [
        {"images": name, "seeds": 5, "spread": spread, "methods": 5}
        | told_apart(World(sizes, spread, random), 5, 5, options.repeats)
        for (name, sizes), spread in itertools.product(SIZES.items(), SPREADS)
    ]
    contradictions += sum(int(case["contradictions"]) for case in equal)
    told = {"repeats": options.repeats, "contradictions": contradictions, "coverage": ranges}
    tell({**told, "equal_methods": equal, "cases": cases}, options.out)


if __name__ == "__main__":
    main()
