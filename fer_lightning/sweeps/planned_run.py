"""The planned runs of a sweep or table, and the state of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from fer_lightning.core.files import content_hash, write_atomic
from fer_lightning.evaluation import results
from fer_lightning.run import claim

_PLANS = ".plans"


class State(Enum):
    """State of a planned run, in the order in which a person wants to read the counts."""

    RUNNING = "running"
    QUEUED = "queued"
    FAILED = "failed"
    STOPPED = "stopped"
    MISSING = "missing"
    DONE = "done"


@dataclass(frozen=True)
class PlannedRun:
    """A run that is to be trained, or a trial of one.

    Attributes:
        words: the overrides.
        directory: the folder.
        label: the name of the run in messages.
        trial: whether only the score on the minival is wanted; the test set is not looked at then.
        gpus: number of GPUs that the run needs on one machine.
        prepared: folder and digest of its prepared faces.
        error: why the run cannot be set up; it has no folder then.
    """

    words: tuple[str, ...]
    directory: Path
    label: str
    trial: bool = False
    gpus: int = 0
    prepared: tuple[str, ...] = ()
    error: str = ""

    def result(self) -> results.Result | results.TrialResult | None:
        """Return the result, or None while the run is not complete."""
        return results.read_trial(self.directory) if self.trial else results.read(self.directory)

    def is_done(self) -> bool:
        """Return whether the run is complete, without reading its result."""
        return (self.directory / (results.TRIAL if self.trial else results.RESULT)).exists()

    def state(self) -> State:
        """Return the state of the run, read from its folder."""
        if self.error:
            return State.FAILED
        if self.is_done():
            return State.DONE
        if claim.is_claimed(self.directory):
            return State.RUNNING
        if (self.directory / claim.FAILURE).exists():
            return State.FAILED
        return State.STOPPED if (self.directory / results.LOG).exists() else State.MISSING

    def failure(self) -> str | None:
        """Return why the run failed; None if it did not fail by itself."""
        return self.error or claim.read_failure(self.directory)

    def score(self) -> tuple[float | None, float]:
        """Return the macro recall on the test set (None for a trial) and on the minival."""
        result = self.result()
        assert result is not None
        tested = result.metrics["macro_recall"] if isinstance(result, results.Result) else None
        return tested, result.minival_macro_recall

    def score_text(self) -> str:
        """Return the scores for a person to read, in percent."""
        tested, minival = self.score()
        return ("" if tested is None else f"macro recall {100 * tested:.1f}, ") + f"minival {100 * minival:.1f}"

    def message(self) -> str:
        """Return why the run failed, or else the last line of its log."""
        if failure := self.failure():
            return failure
        try:
            with (self.directory / results.LOG).open("rb") as stream:
                stream.seek(max(0, stream.seek(0, 2) - 4096))
                lines = stream.read().decode(errors="replace").replace("\r", "\n").strip().splitlines()
        except OSError:
            return "no log"
        return lines[-1].strip().removeprefix("fer: ") if lines else "starting"


def write(runs: Sequence[PlannedRun], base: Path) -> None:
    """Write the plan of a sweep into its folder ``base``, beside the plans of other sweeps."""
    name = content_hash([[run.words, run.trial] for run in runs])[:8]
    plan = [{**asdict(run), "directory": run.directory.name} for run in runs]
    write_atomic(base / _PLANS / f"{name}.json", json.dumps(plan))


def read(base: Path) -> list[PlannedRun]:
    """Return the runs in all plans of a folder, and those in it that no plan names."""
    runs: dict[str, PlannedRun] = {}
    for path in sorted((base / _PLANS).glob("*.json"), key=lambda path: path.stat().st_mtime):
        for entry in json.loads(path.read_text(encoding="utf-8")):
            lists = {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
            run = PlannedRun(**{**entry, **lists, "directory": base / entry["directory"]})
            runs[run.label if run.error else entry["directory"]] = run
    for name in sorted(_unplanned(base, runs)):
        runs[name] = PlannedRun((), base / name, name, (base / name / results.TRIAL).exists())
    return list(runs.values())


def _unplanned(base: Path, planned: Iterable[str]) -> set[str]:
    files = (results.RESULT, results.TRIAL, claim.FAILURE, results.LOG, "last.ckpt")
    folders = {entry.name for entry in base.iterdir() if entry.is_dir()} - {*planned, _PLANS}
    return {name for name in folders if any((base / name / file).exists() for file in files)}
