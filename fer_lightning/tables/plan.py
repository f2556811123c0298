"""A table's file, and the runs that follow from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ValidationError, field_validator

from fer_lightning.config.compose import read_yaml
from fer_lightning.config.shipped import shipped, tables
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import write_atomic
from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.evaluation.posthoc import CORRECTIONS
from fer_lightning.sweeps.planned_run import PlannedRun
from fer_lightning.sweeps.planner import Planner
from fer_lightning.tables.analysis import naming
from fer_lightning.tables.search_space import SearchPlan, Space


def _one_of(kind: str, registry: Mapping[str, object]) -> AfterValidator:
    """Return a validator of names in a registry."""

    def check(name: str) -> str:
        if name not in registry:
            raise ValueError(f"{name}: no such {kind}; there are {', '.join(registry)}")
        return name

    return AfterValidator(check)


class Published(BaseModel, frozen=True, extra="forbid"):
    """A number that others published.

    Attributes:
        value: the number; a share is given as such, not in percent.
        metric: one of METRICS.
        source: author, year, page and table.
    """

    value: float
    metric: Annotated[str, _one_of("metric", METRICS)]
    source: str

    @field_validator("source")
    @classmethod
    def _can_be_looked_up(cls, source: str) -> str:
        if not re.search(r"\bp(p|ages?)?\.? *\d", source) or not re.search(
            r"\btable *[\dIVX]", source, re.IGNORECASE
        ):
            raise ValueError(f"{source!r} does not name page and table, e.g. 'Author et al. 2020, p. 7, Table 3'")
        return source


class RowPlan(BaseModel, frozen=True, extra="forbid"):
    """A row of a table.

    Attributes:
        method: name of the row.
        overrides: overrides that distinguish it.
        abstract: whether the paper's abstract compares it.
        posthoc: correction after training whose numbers it shows; the runs are those of its overrides.
        tune: its further dimensions in the search before the table; None: those of its loss.
        seeds: the table's seeds that it is run with; empty: all of them.
        published: number of others, shown in a separate column.
    """

    method: str
    overrides: list[str]
    abstract: bool = False
    posthoc: Annotated[str, _one_of("correction", CORRECTIONS)] | None = None
    tune: Space | None = None
    seeds: list[int] = []
    published: Published | None = None

    @property
    def loss(self) -> str:
        """Return the option of its loss."""
        options = [word.removeprefix("loss=") for word in self.overrides if word.startswith("loss=")]
        return options[-1] if options else "softmax"


class TablePlan(BaseModel, frozen=True, extra="forbid"):
    """The content of a file in experiments/.

    Attributes:
        name: name of the file.
        title: title of the table.
        rows: rows in their order.
        seeds: seeds that every row is run with.
        metrics: columns of the printed table; ``logit_adjustment.macro_recall`` is one after that correction.
        overrides: overrides of all runs.
        notes: sentences below the table.
        contrasts: pairs of methods whose comparison the table is made for.
        tune: search before the table; None: there is none.
    """

    title: str
    rows: list[RowPlan]
    seeds: list[int]
    metrics: list[str]
    overrides: list[str] = []
    notes: list[str] = []
    contrasts: list[tuple[str, str]] = []
    tune: SearchPlan | None = None
    name: str = ""

    def seeds_of(self, row: RowPlan) -> list[int]:
        """Return the seeds that a row is run with."""
        return [seed for seed in self.seeds if not row.seeds or seed in row.seeds]


@dataclass(frozen=True)
class RowRun:
    """One run of a table, or a trial of the search before it."""

    row: RowPlan
    seed: int
    run: PlannedRun
    point: int | None = None
    """Number of the point that a trial tries; None for a run of the table."""


def label(row: RowPlan, seed: int, tried: Sequence[str] = ()) -> str:
    """Return the label of a run, or of a trial with what it tries, for progress lines and messages."""
    return ", ".join((row.method, *tried, f"seed {seed}"))


def load(name: str) -> TablePlan:
    """Read a table's file: a name from experiments/, or a path.

    Raises:
        UserError: there is no such file, or something in it is wrong.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else shipped("experiments") / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"table {name}: no such file {path}; there is {', '.join(tables())}, or give a path")
    try:
        plan = TablePlan.model_validate(read_yaml(path, "table"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"table {path}: {where}: {first['msg'].removeprefix('Value error, ')}") from error
    naming.refuse_unknown_metrics(f"table {path}", plan.metrics)
    methods = {row.method for row in plan.rows}
    if strange := [row.method for row in plan.rows if set(row.seeds) - set(plan.seeds)]:
        raise UserError(f"table {path}: {strange[0]}: its seeds must be some of the table's {plan.seeds}")
    if unknown := {method for pair in plan.contrasts for method in pair} - methods:
        raise UserError(f"table {path}: contrasts: there is no row {', '.join(sorted(unknown))}")
    return plan.model_copy(update={"name": path.stem})


class Twin(NamedTuple):
    """A row that describes the same experiment as an earlier one, up to a constant factor of the loss."""

    method: str
    first: RowPlan
    factor: float

    def __str__(self) -> str:
        constant = "" if self.factor == 1 else f" up to a constant, {self.factor:.3g} times the loss"
        trained = "; trained once, shown twice" if self.factor == 1 else ""
        return f"{self.method} is the same experiment as {self.first.method}{constant}{trained}."


def twins(plan: TablePlan, overrides: Sequence[str], planner: Planner) -> list[Twin]:
    """Return the rows that repeat an earlier one; sets up data and pre-trained weights where they are missing."""
    from fer_lightning.sweeps.same_experiment import Distinct  # imports torch, which showing a table does not need

    repeated: list[Twin] = []
    seen: Distinct[tuple[RowPlan, str]] = Distinct()
    for row in plan.rows:
        words = [*plan.overrides, *row.overrides, *overrides]
        setting = planner.setting(words)
        if same := seen.add((row, setting), planner.objective(words)):
            (first, first_setting), factor = same
            if first_setting != setting:
                repeated.append(Twin(row.method, first, factor))
    return repeated


def runs(
    plan: TablePlan, overrides: Sequence[str], planner: Planner, base: Path, same: Sequence[Twin] = ()
) -> list[RowRun]:
    """Return all runs, seed by seed; rows that ``same`` names as identical share their runs.

    Raises:
        UserError: an override does not fit the configuration.
    """
    trained = {twin.method: twin.first for twin in same if twin.factor == 1}
    planned = []
    for seed in plan.seeds:
        for row in (row for row in plan.rows if seed in plan.seeds_of(row)):
            row_words = trained.get(row.method, row).overrides
            words = (*plan.overrides, *row_words, *overrides, f"seed={seed}")
            planned.append(RowRun(row, seed, planner.planned(words, base, label(row, seed))))
    return planned


def note_down(
    plan: TablePlan,
    planned: Sequence[RowRun],
    same: Sequence[Twin],
    planner: Planner,
    base: Path,
    **more: Any,
) -> None:
    """Write table.json with the outline of the table, and ``more``, from which it is shown later."""
    rows = []
    for row in plan.rows:
        settings = {planner.setting(run.run.words) for run in planned if run.row is row}
        dumped = row.model_dump(exclude={"tune"})
        rows.append({**dumped, "seeds": plan.seeds_of(row), "settings": [*settings]})
    content = {
        "name": plan.name,
        "title": plan.title,
        "notes": [*plan.notes, *map(str, same)],
        "rows": rows,
        "seeds": plan.seeds,
        "metrics": plan.metrics,
        "contrasts": plan.contrasts,
        **more,
    }
    write_atomic(base / "table.json", json.dumps(content, indent=2) + "\n")


def validate(plan: TablePlan, overrides: Sequence[str], planner: Planner) -> None:
    """Compose every row once, so that a misspelt override is refused before anything is done.

    Raises:
        UserError: an override does not fit the configuration.
    """
    for row in plan.rows:
        planner.compose([*plan.overrides, *row.overrides, *overrides])
