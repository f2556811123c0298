"""``fer table upload``: sends every complete run, and the table, as runs to Weights & Biases."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fer_lightning.core.files import content_hash
from fer_lightning.core.progress import track
from fer_lightning.evaluation import results
from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.tables.analysis.read_runs import read_runs
from fer_lightning.tables.analysis.rows import Table, load
from fer_lightning.tables.output import exports
from fer_lightning.training.loggers import run_summary, wandb_run
from fer_lightning.training.loggers.run_summary import About

log = logging.getLogger(__name__)

REPORT = "report.html"
"""File name of a table's page; it may show faces."""


def upload(directory: Path, project: str, *, offline: bool) -> int:
    """Send a folder's runs, its trials and its table. A run that was sent before is overwritten.

    Args:
        directory: folder of runs.
        project: project at Weights & Biases.
        offline: whether to write the runs into ``directory/wandb``, for ``wandb sync``.

    Returns:
        The exit code, 0.

    Raises:
        UserError: there are no results, they do not belong in one table, or the server does not answer.
    """
    table = load(directory)
    runs = [*_runs(directory), *_trials(directory, table.protocol)]
    for folder, about, result in track(runs, "runs"):
        board = wandb_run.start(about, directory, project, offline=offline)
        run_summary.catch_up(board, [*map(asdict, result.stages)], set())
        run_summary.finish(board, folder, result)
    _send_table(table, project, offline=offline)
    if old := sum(not stage.history for _, _, result in runs for stage in result.stages[-1:]):
        log.warning("notice: %d of %d have no history: they were trained by an earlier version", old, len(runs))
    tried = sum(about.job == run_summary.TUNE for _, about, _ in runs)
    log.info("%d runs, %d trials and the table, project %s", len(runs) - tried, tried, project)
    if offline:
        log.info("nothing was sent; to send it: wandb sync %s/offline-run-*", directory / "wandb")
    return 0


def _runs(directory: Path) -> Iterator[tuple[Path, About, Any]]:
    for folder, result in read_runs(directory):
        about = run_summary.about(result.config, result.protocol, directory / folder)
        yield directory / folder, about, result


def _trials(directory: Path, protocol: dict[str, Any]) -> Iterator[tuple[Path, About, Any]]:
    for path in sorted((directory / results.TRIALS).glob(f"*/{results.TRIAL}")):
        if result := results.read_trial(path.parent):
            yield path.parent, run_summary.about(result.config, protocol, path.parent, trial=True), result


def _send_table(table: Table, project: str, *, offline: bool) -> None:
    """Send the table as a run: numbers, text as notes, and its page where the data may be redistributed."""
    name, group = table.directory.resolve().name, run_summary.group_of(table.directory, table.protocol)
    identity = content_hash([group, "table"])[:16]
    config = {"title": table.title, "protocol": table.protocol}
    about = About(identity, name, group, "table", (), config)
    board = wandb_run.start(about, table.directory, project, offline=offline, notes=exports.to_markdown(table))
    page = table.directory / REPORT
    board.table(*_numbers(table), page if page.exists() and _is_redistributable(table) else None)


def _numbers(table: Table) -> tuple[list[str], list[list[Any]]]:
    """Return columns and rows: of each metric the mean over the seeds and its standard deviation."""
    parts = [f"{metric} {part}" for metric in METRICS for part in ("mean", "std")]
    rows = []
    for row in table.rows:
        numbers = [number for metric in METRICS for number in (row.mean(metric), row.std(metric))]
        shown = [None if math.isnan(number) else number for number in numbers]
        rows.append([row.method, row.loss, row.class_weights, row.stage, len(row.seeds), *shown])
    return ["method", "loss", "class weights", "stage", "seeds", *parts], rows


def _is_redistributable(table: Table) -> bool:
    """Return whether all images and their names may be shown to others."""
    return all(run.result.data.redistributable for row in table.rows for run in row.runs)
