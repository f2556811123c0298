"""A planned run of a sweep or table, and what has become of it."""

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
    """What has become of a run; in the order in which a person wants to read of them."""

    RUNNING = "running"
    FAILED = "failed"
    STOPPED = "stopped"
    MISSING = "missing"
    DONE = "done"


@dataclass(frozen=True)
class PlannedRun:
    """A run that is to be trained, or a trial of one.

    Attributes:
        words: its overrides.
        directory: its folder.
        label: for the lines a person reads.
        trial: whether only the minival's score is wanted, and the test set not looked at.
        gpus: that it needs on one machine.
        error: why there can be no such run; it then has no folder either.
    """

    words: tuple[str, ...]
    directory: Path
    label: str
    trial: bool = False
    gpus: int = 0
    error: str = ""

    def result(self) -> results.Result | results.TrialResult | None:
        """Its result, once it is complete."""
        return results.read_trial(self.directory) if self.trial else results.read(self.directory)

    def is_done(self) -> bool:
        """Whether it is complete, without reading what it left."""
        return (self.directory / (results.TRIAL if self.trial else results.RESULT)).exists()

    def state(self) -> State:
        """What has become of it."""
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
        """Why it ended by itself without a result; None where it did not."""
        return self.error or claim.read_failure(self.directory)

    def score(self) -> tuple[float | None, float]:
        """Macro recall on the test set, None for a trial, and on the minival."""
        result = self.result()
        assert result is not None
        tested = result.metrics["macro_recall"] if isinstance(result, results.Result) else None
        return tested, result.minival_macro_recall

    def says(self) -> str:
        """Why it failed, or else the last line of its log: what it is doing."""
        if failure := self.failure():
            return failure
        try:
            with (self.directory / results.LOG).open("rb") as stream:
                stream.seek(max(0, stream.seek(0, 2) - 4096))
                lines = stream.read().decode(errors="replace").replace("\r", "\n").strip().splitlines()
        except OSError:
            return "no log"
        return lines[-1].strip().removeprefix("fer: ") if lines else "starting"


def note_down(runs: Sequence[PlannedRun], base: Path) -> None:
    """Write down in ``base`` which runs are planned, for ``read``. Plans of other sweeps in it are kept."""
    name = content_hash([[run.words, run.trial] for run in runs])[:8]
    told = [{**asdict(run), "directory": run.directory.name} for run in runs]
    write_atomic(base / _PLANS / f"{name}.json", json.dumps(told))


def read(base: Path) -> list[PlannedRun]:
    """The runs that were planned for a folder, and those that lie in it unplanned."""
    found: dict[str, PlannedRun] = {}
    for path in sorted((base / _PLANS).glob("*.json"), key=lambda path: path.stat().st_mtime):
        for told in json.loads(path.read_text()):
            run = PlannedRun(**{**told, "words": tuple(told["words"]), "directory": base / told["directory"]})
            found[run.label if run.error else told["directory"]] = run
    for name in sorted(_unplanned(base, found)):
        trial = (base / name / results.TRIAL).exists()
        found[name] = PlannedRun((), base / name, name, trial)
    return list(found.values())


def _unplanned(base: Path, planned: Iterable[str]) -> set[str]:
    signs = (results.RESULT, results.TRIAL, claim.FAILURE, results.LOG, "last.ckpt")
    there = {entry.name for entry in base.iterdir() if entry.is_dir()} - {*planned, _PLANS}
    return {name for name in there if any((base / name / sign).exists() for sign in signs)}
