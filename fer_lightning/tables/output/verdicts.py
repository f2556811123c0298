"""What a table says in words: what its rows show, and what a reader has to know."""

from __future__ import annotations

from fer_lightning.tables.analysis import comparisons
from fer_lightning.tables.analysis.comparisons import SEEDS_TO_DECIDE, Comparison
from fer_lightning.tables.analysis.rows import Table
from fer_lightning.tables.analysis.statistics import LEVEL
from fer_lightning.tables.output.formats import percent


def verdict(table: Table) -> str:
    """What the rows show of macro recall, a plain baseline that wins said first."""
    ranked = sorted(table.present, key=lambda row: (row.mean("macro_recall"), row.plain), reverse=True)
    best, base = ranked[0], table.baseline
    done, planned = table.runs
    so_far = f"So far ({done} of {planned} runs). " if done < planned else ""
    value = f"{percent(best.mean('macro_recall'))} %"
    if len(ranked) == 1:
        return f"{so_far}Mean macro recall of {best.method}: {value}; there is no other row to compare it with."
    others = {one.other: one for one in comparisons.together([(best, row) for row in ranked[1:]])}
    if best.plain:
        return (
            f"{so_far}No row is above the plain baseline: {best.method} (no class weights) has the highest mean "
            f"macro recall, {value}, {_compared(others[ranked[1]], 'the next row')}"
        )
    start = f"{so_far}Highest mean macro recall: {best.method}, {value}"
    if base is None:
        return f"{start}; there is no row of softmax without class weights to compare it with."
    return f"{start}, {_compared(others[base], 'the plain baseline')}"


def contrasts(table: Table) -> list[str]:
    """The comparisons that the table was made for, each with what seeds and images show of it."""
    return [f"{one.row.method}: {_compared(one)}" for one in comparisons.contrasts(table)]


def _compared(one: Comparison, role: str = "") -> str:
    """How far a row is above another one, and whether that is decided."""
    gap = one.gap
    side = "below" if gap.mean < 0 else "above"
    where = "" if one.row.seeds == one.other.seeds or not gap.seeds else "on the seeds they share "
    distance = f"{where}{percent(abs(gap.mean))} points {side} {role}{', ' if role else ''}{one.other.method}"
    if gap.seeds < 2:
        return f"{distance}; {'one seed' if gap.seeds else 'no seed in common'}: nothing can be said."
    half = gap.half_width(one.level)
    kind = "simultaneous 95 % interval" if one.level > LEVEL else "95 % interval"
    interval = f"{kind} {percent(gap.mean - half)} to {percent(gap.mean + half)}"
    if one.decided:
        return f"{distance}. Decided ({interval}; p {_p(one.p)})."
    if half < abs(gap.mean):
        return f"{distance}. Not decided with {gap.seeds} seeds, it takes {SEEDS_TO_DECIDE} ({interval})."
    bound = percent(gap.bound(one.level))
    return (
        f"{distance}. Undecided: no difference larger than {bound} points ({interval}). {_what_would_settle(one)}"
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _what_would_settle(one: Comparison) -> str:
    """How many seeds would decide it."""
    count = one.gap.seeds_to_settle(one.level, max(one.gap.seeds + 1, SEEDS_TO_DECIDE))
    if count is None:
        return "No number of seeds on these test images would settle a difference as small as this."
    return f"If it stayed as it is, {count:,} seeds would settle it."
