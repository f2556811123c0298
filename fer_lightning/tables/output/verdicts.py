"""Sentences about a table: which row is best, and which differences are decided."""

from __future__ import annotations

from fer_lightning.tables.analysis import comparisons
from fer_lightning.tables.analysis.comparisons import Comparison
from fer_lightning.tables.analysis.rows import Table
from fer_lightning.tables.analysis.statistics import SEEDS_TO_DECIDE, simultaneous
from fer_lightning.tables.output.formats import interval_kind, p_value, percent, points


def verdict(table: Table) -> str:
    """Return which row has the highest macro recall, and how it compares with the plain baseline.

    Where the plain baseline itself is best, it is compared with the next row.
    """
    ranked = sorted(table.present, key=lambda row: (row.mean("macro_recall"), row.plain), reverse=True)
    best, base = ranked[0], table.baseline
    done, planned = table.runs
    so_far = f"Only {done} of {planned} runs are done. " if done < planned else ""
    value = f"{percent(best.mean('macro_recall'))} %"
    if len(ranked) == 1:
        return (
            f"{so_far}The mean macro recall of {best.method} is {value}; there is no other row to compare it with."
        )
    if best.plain:
        pair = comparisons.compare(table, best, ranked[1])
        return (
            f"{so_far}No row is above the plain baseline: {best.method} (no class weights) has the highest mean "
            f"macro recall, {value}, {_distance(pair, 'the next row, ')}. {_judgement(pair)}"
        )
    start = f"{so_far}The highest mean macro recall, {value}, is that of {best.method}"
    if base is None:
        return f"{start}; there is no row of softmax without class weights to compare it with."
    pair = comparisons.compare(table, best, base)
    return f"{start}, {_distance(pair, 'the plain baseline, ')}. {_judgement(pair)}"


def contrasts(table: Table) -> list[str]:
    """Return sentences for each comparison that the table was made for, with what seeds and images show."""
    return [f"{pair.row.method} is {_distance(pair)}. {_judgement(pair)}" for pair in comparisons.contrasts(table)]


def _distance(pair: Comparison, role: str = "") -> str:
    gap = pair.gap
    shared = "" if pair.row.seeds == pair.other.seeds or not gap.seeds else ", on the seeds that both have"
    side = "below" if gap.mean < 0 else "above"
    return f"{points(abs(gap.mean))} points {side} {role}{pair.other.method}{shared}"


def _judgement(pair: Comparison) -> str:
    """Return what the seeds can and cannot say about a difference."""
    gap = pair.gap
    if not gap.seeds:
        return "The two have no seed in common, so nothing can be said about their difference."
    if gap.seeds == 1:
        return "One seed cannot say whether the two methods differ."
    interval = f"{interval_kind(pair.together)} {' to '.join(map(points, pair.interval))} points"
    if pair.decided:
        return f"The difference is decided ({interval}; {p_value(pair.p)})."
    if gap.excludes_zero(pair.together):
        return (
            f"These {gap.seeds} seeds suggest a difference ({interval}), but do not decide it: that takes "
            f"{SEEDS_TO_DECIDE} seeds."
        )
    return (
        f"These {gap.seeds} seeds leave open which of the two is better; they only speak against differences "
        f"outside the {interval}. {_seeds_needed(pair)}"
    )


def _seeds_needed(pair: Comparison) -> str:
    count = pair.gap.seeds_to_settle(simultaneous(pair.together), max(pair.gap.seeds + 1, SEEDS_TO_DECIDE))
    if count is None:
        return "No number of seeds on these test images would decide a difference as small as this."
    return f"If difference and variation between seeds stayed as they are, {count:,} seeds would decide it."
