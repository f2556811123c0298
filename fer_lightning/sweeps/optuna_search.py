"""``hydra/sweeper=optuna``: a search by the minival's macro recall, seeded and kept on disk, where it resumes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend

from fer_lightning.config.overrides import parse
from fer_lightning.core.errors import Busy, UserError
from fer_lightning.core.files import content_hash
from fer_lightning.sweeps.planned_run import PlannedRun
from fer_lightning.sweeps.planner import Planner
from fer_lightning.sweeps.progress_lines import Progress
from fer_lightning.sweeps.run_sweep import Sweep

log = logging.getLogger(__name__)

JOURNAL = "study.log"


class Search:
    """A study over the choices and intervals in a command line's words.

    What trial k tries is drawn from the study's seed and k, given the scores of those before it; so a search that
    was stopped ends with the trials of one that was not.

    Args:
        words: overrides; those with a choice, a range or an interval are searched over.
        planner: knows the trials' folders.
        base: the study's folder.
        n_trials: how many in all.
        n_jobs: how many are suggested at a time.
        seed: of what is suggested.
        startup: trials drawn at random before the others' scores are used.

    Raises:
        UserError: there is nothing to search over, or a number makes no sense.
    """

    def __init__(
        self,
        words: Sequence[str],
        planner: Planner,
        base: Path,
        *,
        n_trials: int,
        n_jobs: int,
        seed: int,
        startup: int,
    ) -> None:
        if min(n_trials, n_jobs) < 1 or startup < 0:
            raise UserError("hydra.sweeper: n_trials and n_jobs must be at least 1, startup not negative")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.planner, self.base = planner, base
        self.n_trials, self.n_jobs, self.seed, self.startup = n_trials, n_jobs, seed, startup
        parsed = parse(words)
        self.fixed = [override.input_line or "" for override in parsed if not override.is_sweep_override()]
        searched = {override.get_key_element(): override for override in parsed if override.is_sweep_override()}
        if not searched:
            raise UserError(
                "hydra/sweeper=optuna: nothing to search over; say optimizer.lr='interval(1e-4, 1e-2)'"
            )
        self.space = {key: _distribution(override) for key, override in searched.items()}
        base.mkdir(parents=True, exist_ok=True)
        self.study = optuna.create_study(
            study_name=content_hash([self.fixed, {key: repr(what) for key, what in self.space.items()}, seed])[:8],
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(base / JOURNAL))),
            direction="maximize",
            load_if_exists=True,
        )

    def run(self, hydra_words: Sequence[str], config_dir: str | None, *, retry_failed: bool = False) -> int:
        """Try until there are ``n_trials``. Returns 1 where one failed.

        Raises:
            Busy: another process is at this study.
            UserError: all of them failed.
        """
        lock = FileLock(self.base / f".{self.study.study_name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise Busy(f"{self.base}: another process is at this search") from error
        with lock, Progress([], [], self.n_trials) as progress:
            progress.watch([self._run(trial) for trial in self.study.trials if trial.state.is_finished()])
            while trials := self._next():
                runs = [self._run(trial) for trial in trials]
                progress.watch(runs)
                sweep = Sweep(runs, self.base, hydra_words, config_dir, what="trials", retry_failed=retry_failed)
                sweep.train()
                for trial, run in zip(trials, runs, strict=True):
                    self._score(trial, run)
        return self._verdict()

    def _next(self) -> list[optuna.trial.Trial]:
        """The trials to run now: those that an interrupted process left, else new ones, up to ``n_jobs``."""
        left = self.study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
        if left:
            return [optuna.trial.Trial(self.study, trial._trial_id) for trial in left]
        wanted = min(self.n_jobs, self.n_trials - len(self.study.trials))
        return [self._ask() for _ in range(wanted)]

    def _ask(self) -> optuna.trial.Trial:
        number = len(self.study.trials)
        own = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        self.study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=self.startup, seed=own, constant_liar=True
        )
        return self.study.ask(self.space)

    def _run(self, trial: optuna.trial.Trial | optuna.trial.FrozenTrial) -> PlannedRun:
        chosen = {key: trial.params[key] for key in self.space}
        short = [
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in chosen.items()
        ]
        words = [*self.fixed, *(f"{key}={value}" for key, value in chosen.items())]
        return self.planner.planned(words, self.base, f"trial {trial.number}: {' '.join(short)}", trial=True)

    def _score(self, trial: optuna.trial.Trial, run: PlannedRun) -> None:
        if run.is_done():
            self.study.tell(trial, run.score()[1])
        elif run.failure():
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            raise UserError(f"{run.label}: not complete: {run.says()}; the same command goes on with it")

    def _verdict(self) -> int:
        failed = self.study.get_trials(states=(optuna.trial.TrialState.FAIL,))
        for trial in failed:
            run = self._run(trial)
            log.error("failed: %s: %s", run.label, run.says())
        if len(failed) == len(self.study.trials):
            raise UserError(f"{self.base}: all trials failed")
        best = self.study.best_trial
        log.info(
            "best of %d trials: minival %.1f: %s",
            len(self.study.trials),
            100 * (best.value or 0),
            self._run(best).label,
        )
        log.info("train it: fer train %s", " ".join(self._run(best).words))
        return 1 if failed else 0


def _distribution(override: Override) -> optuna.distributions.BaseDistribution:
    """What a word with a choice, a range or an interval searches over; ``tag(log, ...)``: in logarithms."""
    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        kind: Any = IntDistribution if whole else FloatDistribution
        try:
            made: optuna.distributions.BaseDistribution = kind(value.start, value.end, log="log" in value.tags)
        except ValueError as error:
            raise UserError(f"{override.input_line}: {error}") from error
        return made
    if isinstance(value, RangeSweep) and not value.shuffle and isinstance(value.stop, int):
        return IntDistribution(int(value.start or 0), value.stop - 1, step=int(value.step))
    return CategoricalDistribution(list(override.sweep_string_iterator()))
