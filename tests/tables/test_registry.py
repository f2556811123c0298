"""A metric and a correction stand in one place: one entry shows them in results, tables and comparisons."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_up import answering
from runs import SMALL, fer, result

from fer_lightning.evaluation.metrics import METRICS, Metric, accuracy
from fer_lightning.evaluation.posthoc import CORRECTIONS, Correction
from fer_lightning.run.__main__ import main as run_main
from fer_lightning.tables.analysis.comparisons import compare, standing
from fer_lightning.tables.analysis.rows import load
from fer_lightning.tables.upload import _numbers


def error(counts: Any) -> Any:
    return 1 - accuracy(counts)


@pytest.fixture(autouse=True)
def entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry more in each registry."""
    metric = Metric("error", "Top-1 error", "error: share of wrong", lower_is_better=True, of_confusion=error)
    correction = Correction("negated", "negation", "error", lambda *_: {"factor": -1.0}, lambda z, *_: -z)
    monkeypatch.setitem(METRICS, metric.name, metric)
    monkeypatch.setitem(CORRECTIONS, correction.name, correction)


def test_one_entry_is_in_the_result_of_a_run_and_in_every_file_of_a_table(tmp_path: Path) -> None:
    assert run_main(["--directory", str(tmp_path / "run"), *SMALL, "data.minival=0.4", "logger=none"]) == 0
    told = result(tmp_path / "run")
    assert told["metrics"]["error"] == pytest.approx(1 - told["metrics"]["accuracy"])
    assert told["posthoc"]["negated"]["factor"] == -1
    assert told["posthoc"]["negated"]["confusion"] != told["confusion"]
    assert fer("table", "show", str(tmp_path)).code == 0
    for name in ("table.md", "table.tex", "report.html"):
        assert "Top-1 error" in (tmp_path / name).read_text(), name
    assert "error: share of wrong" in (tmp_path / "table.md").read_text()
    assert "| Top-1 error, as trained | negation |" in (tmp_path / "table.md").read_text()
    with (tmp_path / "table.csv").open() as stream:
        assert {"error_mean", "error_low"} <= next(csv.DictReader(stream)).keys()
    with (tmp_path / "runs.csv").open() as stream:
        assert {"error", "negated_error", "negated_accuracy"} <= next(csv.DictReader(stream)).keys()
    assert "error mean" in _numbers(load(tmp_path))[0]


def test_rows_are_compared_in_a_metric_over_seeds_and_images_and_the_lowest_is_best(tmp_path: Path) -> None:
    answering(tmp_path, {("softmax", "none"): 0.6, ("focal", "none"): 0.7})
    table = load(tmp_path)
    compared, expected = (compare(table, *table.rows, metric) for metric in ("error", "accuracy"))
    assert compared.gap.mean == pytest.approx(-expected.gap.mean) != 0
    assert compared.gap.image == pytest.approx(expected.gap.image) != 0
    best = {metric: standing(table, metric) for metric in ("error", "accuracy")}
    assert best["error"] == best["accuracy"] is not None


def test_a_metric_that_came_later_is_no_number_in_results_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(tmp_path, {("softmax", "none"): 0.6}, seeds=2)
    monkeypatch.setitem(METRICS, "later", Metric("later", "Later", of_confusion=accuracy))
    assert math.isnan(load(tmp_path).rows[0].mean("later"))


def test_a_metric_without_a_function_is_refused() -> None:
    with pytest.raises(ValueError, match="metric empty: give of_confusion or of_probabilities"):
        Metric("empty", "Empty")


def test_the_registries_are_read_without_torch() -> None:
    code = "import sys; from fer_lightning.evaluation import metrics, posthoc; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
