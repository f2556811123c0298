"""A run from its config to its result: set-up, training, test."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fer_lightning.config import identity
from fer_lightning.core.errors import UserError
from fer_lightning.data.store.store import Store
from fer_lightning.evaluation import results
from fer_lightning.inference.load_model import load_model
from fer_lightning.models.network import Network
from fer_lightning.run import build, claim
from fer_lightning.run.final_test import finish, watch_centers
from fer_lightning.run.set_up import RunSetup, log_data, set_up
from fer_lightning.run.train_stages import Training
from fer_lightning.training import distributed
from fer_lightning.training.trainer import LAST

log = logging.getLogger(__name__)


def train(
    config: dict[str, Any],
    directory: Path | None,
    base: Path,
    *,
    trial: bool = False,
    open_faces: Callable[[], Store] | None = None,
) -> Path:
    """Train and test a run, unless it is complete, and return its folder.

    Args:
        config: config from ``compose``.
        directory: folder of the run; None: a folder with a readable name in ``base``.
        base: folder of runs.
        trial: whether to only train, and to write the score on the minival to trial.json without the test set.
        open_faces: opens the faces that were prepared when the run was planned; None: the data set is read.

    Raises:
        UserError: a mistake of the user, or the run failed.
    """
    begin = time.monotonic()
    settings = build.trainer(config)
    with ExitStack() as stack:
        with distributed.process_group(settings.device, settings.timeout):
            setup = distributed.on_every_rank(lambda: set_up(config, prepared=open_faces and open_faces()))
            directory = directory or base / identity.run_name(config, setup.protocol)
            if distributed.is_first():
                stack.enter_context(claim.claimed(directory))
                begin -= claim.seconds_before(directory)
            if distributed.agree(_is_complete(directory, setup, trial)):
                log.info("complete: %s has a result, nothing to do", directory)
                return directory
            log_data(setup.data)
            stack.enter_context(_seconds_kept(directory, begin))
            logger = build.logger(config, setup.protocol, directory, trial=trial)
            watch_test, keep_seconds = config["optimism"] and not trial, partial(_keep_seconds, directory, begin)
            training = Training(setup, directory, logger, watch_test=watch_test, on_progress=keep_seconds)
            network = training.run()
        if distributed.is_first():
            _finish(training, network, begin, trial)
    return directory


def _keep_seconds(directory: Path, begin: float) -> None:
    if distributed.is_first():
        claim.keep_seconds(directory, time.monotonic() - begin)


@contextmanager
def _seconds_kept(directory: Path, begin: float) -> Iterator[None]:
    """Keep the seconds of a run that is interrupted, so that its result has those of all its processes."""
    try:
        yield
    except OSError:  # such as a full disk
        raise
    except BaseException:
        _keep_seconds(directory, begin)
        raise
    if distributed.is_first():
        claim.keep_seconds(directory, None)


def _is_complete(directory: Path, setup: RunSetup, trial: bool) -> bool:
    """Return whether the run is complete; if so, remove LAST, which a process killed at the end may have left."""
    if not distributed.is_first() or not (result := (results.read_trial if trial else results.read)(directory)):
        return False
    protocol = result.protocol if isinstance(result, results.Result) else setup.protocol
    if identity.identity(result.config, protocol) != identity.identity(setup.config, setup.protocol):
        raise UserError(f"{directory} holds the result of another run; choose another folder or delete it")
    (directory / LAST).unlink(missing_ok=True)
    claim.keep_seconds(directory, None)
    return True


def _finish(training: Training, network: Network, begin: float, trial: bool) -> None:
    """Test the run and write its result or, for a trial, the score on the minival."""
    setup, directory = training.setup, training.directory
    if trial:
        trial_result = results.TrialResult(
            minival_macro_recall=training.results[-1].minival_macro_recall,
            stages=training.results,
            config=setup.config,
            seconds=round(time.monotonic() - begin, 2),
        )
        results.write_trial(directory, trial_result)
        for name in (results.CHECKPOINT, LAST):  # not earlier, since an interrupted stage continues from both
            (directory / name).unlink()
        training.logger.finish(trial_result)
        return
    extra = {"stages": training.results, "notices": training.notices}
    extra |= watch_centers(training, network)
    checkpoint = directory / results.CHECKPOINT
    best = load_model(checkpoint, build.users_classes(setup.config))
    result = finish(directory, best, setup, begin, extra, checkpoint=checkpoint)
    (directory / LAST).unlink()
    training.logger.finish(result)
    numbers = ", ".join(f"{name} {result.metrics[name]:.3f}" for name in ("accuracy", "macro_recall"))
    log.info("test: %s; %s", numbers, directory)
