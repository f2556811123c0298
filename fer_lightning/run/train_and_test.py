"""A run from its config to its result: set up, trained stage by stage, tested, written down."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fer_lightning.config import identity
from fer_lightning.core.errors import UserError
from fer_lightning.evaluation import results
from fer_lightning.inference.load_model import load_model
from fer_lightning.models.network import Network
from fer_lightning.run import build, claim
from fer_lightning.run.final_test import finish, watch_centers
from fer_lightning.run.set_up import RunSetup, set_up, tell_data
from fer_lightning.run.train_stages import Training
from fer_lightning.training import distributed
from fer_lightning.training.trainer import LAST

log = logging.getLogger(__name__)


def train(config: dict[str, Any], directory: Path | None, base: Path, *, trial: bool = False) -> Path:
    """Train and test a run, unless that was done. Returns its folder.

    Args:
        config: as from ``compose``.
        directory: the run's folder; None: a readable name in ``base``.
        base: folder of runs.
        trial: only train, and leave the minival's score in trial.json: the test set is not looked at.

    Raises:
        UserError: something the user can mend.
    """
    begin = time.monotonic()
    setup = set_up(config)
    directory = directory or base / identity.run_name(config, setup.protocol)
    with ExitStack() as held:
        with distributed.together(setup.settings.device, setup.settings.timeout):
            if distributed.is_first():
                held.enter_context(claim.claimed(directory))
            if distributed.agree(_is_complete(directory, setup, trial)):
                log.info("complete: %s was there, nothing to do", directory)
                return directory
            tell_data(setup.data)
            logger = build.logger(config, setup.protocol, directory, trial=trial)
            training = Training(setup, directory, logger, watch_test=config["optimism"] and not trial)
            network = training.run()
        if distributed.is_first():
            _finish(training, network, begin, trial)
    return directory


def _is_complete(directory: Path, setup: RunSetup, trial: bool) -> bool:
    """Whether the run was trained before; what its process left, if it was killed in the end, is tidied up."""
    if not distributed.is_first() or not (there := (results.read_trial if trial else results.read)(directory)):
        return False
    protocol = there.protocol if isinstance(there, results.Result) else setup.protocol
    if identity.identity(there.config, protocol) != identity.identity(setup.config, setup.protocol):
        raise UserError(f"{directory} holds the result of another run; choose another folder or delete it")
    (directory / LAST).unlink(missing_ok=True)
    return True


def _finish(training: Training, network: Network, begin: float, trial: bool) -> None:
    """Test what was trained and write the result or, for a trial, the minival's score."""
    setup, directory = training.setup, training.directory
    if trial:
        told = results.TrialResult(
            minival_macro_recall=training.results[-1].minival_macro_recall,
            stages=training.results,
            config=setup.config,
            seconds=round(time.monotonic() - begin, 2),
        )
        results.write_trial(directory, told)
        for needless in (results.CHECKPOINT, LAST):  # now, and not before: a stage goes on from both
            (directory / needless).unlink()
        training.logger.finish(told)
        return
    extra = {"stages": training.results, "notices": training.notices}
    extra |= watch_centers(training, network)
    best = load_model(directory / results.CHECKPOINT, build.own(setup.config))
    result = finish(directory, best, setup, begin, extra)
    (directory / LAST).unlink()
    training.logger.finish(result)
    numbers = ", ".join(f"{name} {result.metrics[name]:.3f}" for name in ("accuracy", "macro_recall"))
    log.info("test: %s; %s", numbers, directory)
