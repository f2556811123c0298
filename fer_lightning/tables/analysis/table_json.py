"""The outline of a table: recorded in table.json before training, or suggested by the results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fer_lightning.core.errors import UserError
from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.tables.analysis import naming
from fer_lightning.tables.analysis.read_runs import FinishedRun

TABLE = "table.json"

SEARCH_KEYS = {"method", "keys", "points", "scores", "chosen", "edge", "second"}
"""What is known about the search of a row, see ``tune.chosen``."""


@dataclass(frozen=True)
class Outline:
    """A table's rows as table.json has them, its columns and texts; see ``rows.Table``."""

    title: str
    rows: list[dict[str, Any]]
    seeds: list[int]
    metrics: Sequence[str] = field(default_factory=lambda: [*METRICS])
    contrasts: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    substitute: str | None = None
    search: Sequence[dict[str, Any]] = ()
    search_seeds: Sequence[int] = ()
    command: str | None = None


def outline(directory: Path, by_setting: dict[str, list[FinishedRun]]) -> Outline:
    """Return the outline of a folder of runs, which are given by their settings.

    Raises:
        UserError: its table.json is broken or of another version, or names an unknown metric.
    """
    return _declared(directory / TABLE) or _suggested(directory, by_setting)


def _declared(path: Path) -> Outline | None:
    """Return the recorded outline; None where the folder was not made from a table file."""
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        recorded = Outline(**{item.name: content[item.name] for item in fields(Outline) if item.name in content})
    except (json.JSONDecodeError, TypeError) as error:
        raise UserError(
            f"{path}: not a table.json of fer: {error}; delete it to show the results as they are"
        ) from error
    naming.refuse_unknown_metrics(str(path), recorded.metrics)
    if any(search.keys() != SEARCH_KEYS for search in recorded.search):
        raise UserError(
            f"{path}: its search was recorded by another version; run the table again, or delete the file to show "
            "the results as they are"
        )
    return recorded


def _suggested(directory: Path, by_setting: dict[str, list[FinishedRun]]) -> Outline:
    """Return an outline with a row for every setting, plain ones first."""
    configs = [runs[0].result.config for runs in by_setting.values()]
    named = zip(naming.labels(configs), configs, by_setting, strict=True)
    ordered = sorted(named, key=lambda item: (not naming.is_plain(item[1]), item[0]))
    rows = [{"method": name, "abstract": False, "overrides": [], "settings": [key]} for name, _, key in ordered]
    rivals = [
        {**row, "method": f"{row['method']} + logit adjustment", "posthoc": "logit_adjustment"}
        for row, (_, config, key) in zip(rows, ordered, strict=True)
        if naming.is_plain(config) and all(c.result.posthoc for c in by_setting[key])
    ]
    rows[len(rivals) : len(rivals)] = rivals  # after the plain rows
    seeds = sorted({run.result.seed for runs in by_setting.values() for run in runs})
    return Outline(f"Results in {directory.resolve().name}", rows, seeds)
