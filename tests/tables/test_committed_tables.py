"""What lies under experiments/results: the tables that the README shows."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import fmean

import pytest

from fer_lightning.core.emotions import EMOTIONS
from fer_lightning.tables import plan

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
TABLES = sorted(path.parent for path in RESULTS.glob("*/runs.csv"))


@pytest.fixture(params=TABLES, ids=lambda folder: folder.name)
def runs(request: pytest.FixtureRequest) -> tuple[str, list[dict[str, str]]]:
    with (request.param / "runs.csv").open() as stream:
        return request.param.name, list(csv.DictReader(stream))


def test_there_is_a_table_on_drawn_and_one_on_real_faces() -> None:
    assert {"embedded", "ferplus"} <= {folder.name for folder in TABLES}


def test_every_run_of_the_tables_file_is_there(runs: tuple[str, list[dict[str, str]]]) -> None:
    name, rows = runs
    file = plan.load(name)
    found = {(row["method"], int(row["seed"])) for row in rows}
    assert len(found) == len(rows)
    assert {method for method, _ in found} == {row.method for row in file.rows}
    seeds = {seed for _, seed in found}
    assert len(seeds) >= 2
    assert found == {
        (row.method, seed) for row in file.rows for seed in seeds if not row.seeds or seed in row.seeds
    }


# whose centers follow class means and nothing else: island's push apart, sparse_center's follow weighted offsets
FOLLOWING = {f"loss={name}" for name in ("center", "contrastive_center", "cluster", "affinity")}


def test_every_running_center_stays_near_its_class_mean(runs: tuple[str, list[dict[str, str]]]) -> None:
    """On average over the seeds: the center of a rare class that overlaps others is a mean of few images."""
    name, rows = runs
    running = {
        row.method
        for row in plan.load(name).rows
        if FOLLOWING & set(row.overrides) and "loss.center_update=exact" not in row.overrides
    }
    drifts = {
        (method, emotion): fmean(float(row[f"center_drift_{emotion}"]) for row in rows if row["method"] == method)
        for method in running
        for emotion in EMOTIONS
    }
    assert bool(drifts) == bool(running)
    assert {where: drift for where, drift in drifts.items() if not drift < 1} == {}
