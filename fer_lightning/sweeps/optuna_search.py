"""``hydra/sweeper=optuna``: a seeded search by the minival's macro recall, which resumes from its file."""

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
    """An Optuna study over the choices and intervals of a command line.

    Trial k depends on the seed, on k and on the scores of the trials before it, so an interrupted search ends with
    the same trials as one that was not.

    Args:
        words: overrides; those with choices, a range or an interval are searched over.
        planner: plans the run of each trial.
        base: the folder of the study.
        n_trials: number of trials in all.
        n_jobs: number of trials suggested at a time.
        seed: seed of the suggestions.
        startup: number of random trials before suggestions use the scores.

    Raises:
        UserError: there is nothing to search over, or a number is out of its range.
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
                "hydra/sweeper=optuna: nothing to search over; give e.g. optimizer.lr='interval(1e-4, 1e-2)'"
            )
        self.space = {key: _distribution(override) for key, override in searched.items()}
        base.mkdir(parents=True, exist_ok=True)
        space = {key: repr(distribution) for key, distribution in self.space.items()}
        self.study = optuna.create_study(
            study_name=content_hash([self.fixed, space, seed])[:8],
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(base / JOURNAL))),
            direction="maximize",
            load_if_exists=True,
        )

    def run(self, hydra_words: Sequence[str], config_dir: str | None, *, retry_failed: bool = False) -> int:
        """Train trials until there are ``n_trials``, and log the best one.

        Args:
            hydra_words: overrides that begin with ``hydra``.
            config_dir: a user's folder with further options.
            retry_failed: whether trials that failed earlier are trained anew.

        Returns:
            1 if a trial failed, else 0.

        Raises:
            Busy: another process is running this search.
            UserError: all trials failed, or one was stopped.
        """
        lock = FileLock(self.base / f".{self.study.study_name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise Busy(f"{self.base}: another process is running this search") from error
        with lock, Progress([], [], self.n_trials) as progress:
            progress.watch([self._run(trial) for trial in self.study.trials if trial.state.is_finished()])
            while trials := self._next():
                runs = [self._run(trial) for trial in trials]
                progress.watch(runs)
                sweep = Sweep(runs, self.base, hydra_words, config_dir, what="trials", retry_failed=retry_failed)
                sweep.train()
                for trial, run in zip(trials, runs, strict=True):
                    self._score(trial, run)
        return self._conclude()

    def _next(self) -> list[optuna.trial.Trial]:
        """Return the trials to train now: those of an interrupted search, else up to ``n_jobs`` new ones."""
        interrupted = self.study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
        if interrupted:
            return [optuna.trial.Trial(self.study, trial._trial_id) for trial in interrupted]
        return [self._ask() for _ in range(min(self.n_jobs, self.n_trials - len(self.study.trials)))]

    def _ask(self) -> optuna.trial.Trial:
        number = len(self.study.trials)
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        self.study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=self.startup, seed=seed, constant_liar=True
        )
        return self.study.ask(self.space)

    def _run(self, trial: optuna.trial.Trial | optuna.trial.FrozenTrial) -> PlannedRun:
        values = {key: trial.params[key] for key in self.space}
        rounded = [f"{key}={v:.4g}" if isinstance(v, float) else f"{key}={v}" for key, v in values.items()]
        words = [*self.fixed, *(f"{key}={value}" for key, value in values.items())]
        return self.planner.planned(words, self.base, f"trial {trial.number}: {' '.join(rounded)}", trial=True)

    def _score(self, trial: optuna.trial.Trial, run: PlannedRun) -> None:
        if run.is_done():
            self.study.tell(trial, run.score()[1])
        elif run.failure():
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            raise UserError(f"{run.label}: not complete: {run.message()}; the same command goes on with it")

    def _conclude(self) -> int:
        failed = self.study.get_trials(states=(optuna.trial.TrialState.FAIL,))
        for trial in failed:
            run = self._run(trial)
            log.error("failed: %s: %s", run.label, run.message())
        if len(failed) == len(self.study.trials):
            raise UserError(f"{self.base}: all trials failed")
        best, count = self._run(self.study.best_trial), len(self.study.trials)
        log.info("best of %d trials: minival %.1f: %s", count, 100 * self.study.best_value, best.label)
        log.info("train it: fer train %s", " ".join(best.words))
        return 1 if failed else 0


def _distribution(override: Override) -> optuna.distributions.BaseDistribution:
    """Return the values that a word with choices, a range or an interval stands for.

    An interval in ``tag(log, ...)`` is searched on a logarithmic scale.

    Raises:
        UserError: Optuna refuses the interval.
    """
    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        kind: Any = IntDistribution if whole else FloatDistribution
        try:
            interval: optuna.distributions.BaseDistribution = kind(value.start, value.end, log="log" in value.tags)
        except ValueError as error:
            raise UserError(f"{override.input_line}: {error}") from error
        return interval
    if isinstance(value, RangeSweep) and not value.shuffle and isinstance(value.stop, int):
        return IntDistribution(int(value.start or 0), value.stop - 1, step=int(value.step))
    return CategoricalDistribution(list(override.sweep_string_iterator()))
