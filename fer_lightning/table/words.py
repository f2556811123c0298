"""What a table says in words: how a number is written, what the rows show, and what a reader has to know."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from fer_lightning.cache import content_hash
from fer_lightning.progress import duration
from fer_lightning.table.rows import Row, Table, difference

DAGGER = "†"
MISSING = "–"
IN_PERCENT = {"accuracy", "macro_recall", "macro_f1"}
SEEDS_FOR_MARKS = 5


def percent(value: float, *, sign: bool = False) -> str:
    """A share in percent points with one decimal; a dash for NaN."""
    return MISSING if math.isnan(value) else _signed(f"{100 * value:.1f}", sign)


def decimal(value: float) -> str:
    """A number with three decimals; a dash for NaN."""
    return MISSING if math.isnan(value) else _signed(f"{value:.3f}", False)


def _signed(number: str, plus: bool) -> str:
    """A true minus sign, none before a zero, and a plus where asked for."""
    magnitude = number.lstrip("-")
    if float(number) == 0:
        return magnitude
    return f"−{magnitude}" if number != magnitude else f"{'+' if plus else ''}{magnitude}"


def cell(row: Row, metric: str) -> str:
    """Mean ± standard deviation over the seeds; a dash for what is not there."""
    mean, std = row.mean(metric), row.std(metric)
    if math.isnan(mean):
        return MISSING
    if metric in IN_PERCENT:
        return f"{percent(mean)} ± {percent(std)}"
    return f"{decimal(mean)} ± {decimal(std)}"


def marks(table: Table) -> bool:
    """Whether every row has seeds enough for a difference to be marked."""
    return all(len(row.seeds) >= SEEDS_FOR_MARKS for row in table.rows)


def verdict(table: Table) -> str:
    """What the rows show of macro recall, a plain baseline that wins said first."""
    ranked = sorted(table.present, key=lambda row: (row.mean("macro_recall"), row.plain), reverse=True)
    best, base = ranked[0], table.baseline
    done, planned = table.cells
    so_far = f"So far ({done} of {planned} cells). " if done < planned else ""
    value = f"{percent(best.mean('macro_recall'))} %"
    if len(ranked) == 1:
        return f"{so_far}Mean macro recall of {best.method}: {value}; there is no other row to compare it with."
    if best.plain:
        return (
            f"{so_far}No row is above the plain baseline: {best.method} (no class weights) has the highest mean "
            f"macro recall, {value}, {_compared(best, ranked[1], 'the next row')}"
        )
    start = f"{so_far}Highest mean macro recall: {best.method}, {value}"
    if base is None:
        return f"{start}; there is no row of softmax without class weights to compare it with."
    return f"{start}, {_compared(best, base, 'the plain baseline')}"


def contrasts(table: Table) -> list[str]:
    """The comparisons that the table was made for, each with what the seeds show of it."""
    rows = {row.method: row for row in table.present}
    pairs = [(rows[a], rows[b]) for a, b in table.contrasts if a in rows and b in rows]
    return [f"{row.method}: {_compared(row, other)}" for row, other in pairs]


def _compared(row: Row, other: Row, role: str = "") -> str:
    """How far a row is above another one, and whether the seeds show it."""
    gap = difference(row, other)
    side = "below" if gap.mean < 0 else "above"
    where = "" if row.seeds == other.seeds or not gap.seeds else "on the seeds they share "
    distance = f"{where}{percent(abs(gap.mean))} points {side} {role}{', ' if role else ''}{other.method}"
    if gap.seeds < 2:
        return f"{distance}; {'one seed' if gap.seeds else 'no seed in common'}: nothing can be said."
    errors = f"{abs(gap.mean) / gap.error:.1f} standard errors; " if gap.error > 0 else ""
    grounds = (
        f"{errors}95 % t-interval of the difference over {gap.seeds} paired seeds: "
        f"{percent(gap.low)} to {percent(gap.high)} points"
    )
    if gap.shown:
        return f"{distance}. On these test images that is more than the seeds explain ({grounds})."
    return (
        f"{distance}. Undecided: no difference larger than {percent(gap.bound)} points could be shown ({grounds})."
    )


def foot(table: Table) -> list[str]:
    """What a reader has to know, a paragraph an item."""
    return [
        *table.notes,
        *_about_methods(table),
        _about_columns(table),
        _about_seeds(table),
        _about_intervals(table),
        *_about_data(table),
        *_about_provenance(table),
    ]


def _about_methods(table: Table) -> Iterable[str]:
    if any(row.abstract for row in table.rows):
        yield (
            f"{DAGGER} One of the three methods that the abstract of Ngo & Yoon (Sensors 2020, 20(9), 2639) "
            "compares. What the abstract does not state was chosen here; no number of theirs is in this table."
        )


def _about_columns(table: Table) -> str:
    explained = {
        "cohen_kappa": "kappa: Cohen's",
        "krippendorff_alpha": "alpha: Krippendorff's, nominal",
        "auroc": "AUROC: one against the rest, mean over the classes",
        "average_precision": "AP: average precision, mean over the classes",
        "ece": "ECE: expected calibration error, 15 bins, lower is better",
    }
    others = "".join(f"; {text}" for metric, text in explained.items() if metric in table.metrics)
    return (
        "Mean ± standard deviation (n − 1) over the seeds. Accuracy, macro recall (= unweighted average recall = "
        f"balanced accuracy) and macro F1 in percent{others}."
    )


def _about_seeds(table: Table) -> str:
    done, planned = table.cells
    text = f"Seeds: {', '.join(map(str, table.seeds))}."
    if done < planned:
        gaps = [
            f"{row.method} has {', '.join(map(str, row.seeds)) or 'none'}"
            for row in table.rows
            if len(row.seeds) < row.planned
        ]
        text += f" {planned - done} of {planned} cells are missing: {'; '.join(gaps)}."
    if fewer := [f"{row.method} with {row.planned}" for row in table.rows if row.planned < len(table.seeds)]:
        text += f" Planned with fewer: {', '.join(fewer)}."
    if table.strays:
        text += f" Results in the folder that belong to no row, left out: {table.strays}."
    return text


def _about_intervals(table: Table) -> str:
    marked = (
        "Bold: best of its column, and the 95 % t-interval of its difference from the next row leaves out zero."
        if marks(table)
        else f"Fewer than {SEEDS_FOR_MARKS} seeds: no value is marked as best."
    )
    over = (
        f"Over baseline: macro recall minus that of {table.baseline.method}, seed by seed, in points, with its "
        "95 % interval. "
        if table.baseline
        else ""
    )
    return (
        f"{marked} {over}Intervals of differences are t-intervals over the seeds; they hold neither the choice of "
        f"the test images nor that the highest of {len(table.present)} rows was picked after the fact. ± 95 %: "
        "half of the interval of a row's macro recall over seeds and test images, in quadrature; from the "
        f"{table.images:,} images alone it has a standard error of {percent(table.image_error)} points."
    )


def _about_data(table: Table) -> Iterable[str]:
    said = table.protocol
    classes = said.get("classes", [])
    weights = said.get("backbone_weights")
    size, crop = said.get("size"), said.get("crop")
    seen = f", of which the middle {crop} are seen" if crop not in (None, size) else ""
    views = "; tested on each and its mirror image" if said.get("flip_averaging") else ""
    yield (
        f"Protocol {content_hash(said)[:8]}: {said.get('data')}, {len(classes)} classes ({', '.join(classes)}), "
        f"faces of {size} pixels{seen}{views}, backbone {said.get('backbone')} "
        f"({f'weights {weights[:8]}' if weights else 'random weights'})."
    )
    leaks, excluded, set_aside = table.left_out
    yield (
        f"Training images dropped because they are copies of test images: {leaks:,}. "
        + (f"Left out by data.exclude before that: {excluded:,}. " if excluded else "")
        + f"Files set aside as unusable: {set_aside:,}."
    )


def _about_provenance(table: Table) -> Iterable[str]:
    versions = [_joined(one.get("versions", {})) for one in table.provenance]
    machines = [_joined(one.get("machine", {})) for one in table.provenance]
    for name, values in (("Versions", versions), ("Machine", machines)):
        counts = Counter(values)
        if len(counts) == 1:
            yield f"{name}: {values[0]}."
        else:
            listed = "; ".join(
                f"{count} {'cell' if count == 1 else 'cells'} with {value}"
                for value, count in counts.most_common()
            )
            yield f"{name}: mixed. {listed}."
    yield f"Run time of the {len(table.provenance)} cells: {duration(table.seconds)}."


def _joined(said: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in said.items())
