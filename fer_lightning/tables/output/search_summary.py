"""The search before a table in a few words: what was chosen, and how clearly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from fer_lightning.tables.analysis.rows import Table

AT_THE_EDGE = " (at the edge)"


class SearchedRows(NamedTuple):
    """Rows that share a search, since they share their runs, and what was chosen for them.

    Attributes:
        methods: names of the rows.
        values: chosen values, each as ``key=value``, with a mark where that is the lowest or the highest tried.
        second: how far the second best point is below, as a share; None where all points are the same.
    """

    methods: list[str]
    values: list[str]
    second: float | None


def of_rows(searches: Sequence[Mapping[str, Any]]) -> list[SearchedRows]:
    """Return what was chosen, once for rows that share their search.

    Args:
        searches: ``search`` of table.json.
    """
    shared: list[tuple[dict[str, Any], SearchedRows]] = []
    for search in searches:
        content = {key: value for key, value in search.items() if key != "method"}
        same = next((rows for earlier, rows in shared if earlier == content), None)
        if same:
            same.methods.append(search["method"])
            continue
        point = zip(search["keys"], search["points"][search["chosen"]], strict=True)
        values = [f"{key}={in_short(value)}{AT_THE_EDGE * (key in search['edge'])}" for key, value in point]
        shared.append((content, SearchedRows([search["method"]], values, search["second"])))
    return [rows for _, rows in shared]


def in_short(value: object) -> str:
    """Return a value that was tried, without the decimals that a number does not need."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def keys_tried_alike(searches: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys of which all rows tried the same values in the same order."""
    columns = [dict(zip(search["keys"], zip(*search["points"], strict=True), strict=True)) for search in searches]
    return (
        [key for key in columns[0] if all(row.get(key) == columns[0][key] for row in columns)] if columns else []
    )


def unsearched_stages(table: Table) -> list[str]:
    """Return the first stages of all rows in which no key of their search has a part; never the last stage."""
    keys = {search["method"]: search["keys"] for search in table.search}
    found = {
        _unsearched(row.runs[0].result.config["stage"], keys[row.method])
        for row in table.present
        if row.method in keys
    }
    return [*found.pop()] if len(found) == 1 else []


def _unsearched(config: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, ...]:
    """Return the first stages of a run's config in which no key has a part."""
    stages = {name: stage for name, stage in config.items() if isinstance(stage, dict)}
    return tuple(takewhile(lambda name: not _concerned(name, stages[name], keys), [*stages][:-1]))


def _concerned(name: str, stage: Mapping[str, Any], keys: Sequence[str]) -> bool:
    """Return whether one of the keys may change a stage: its own, its loss's, or what all stages share."""
    for key in keys:
        group, *inner = key.split(".")
        if group == "stage" and len(inner) > 1:
            concerned = inner[0] == name
        else:
            concerned = group != "loss" or stage["loss"] == "configured"
        if concerned:
            return True
    return False
