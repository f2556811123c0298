"""One cell: data, stages, test, result. A process of its own: ``python -m fer_lightning.run OVERRIDE...``."""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while PyTorch is being imported ends it without a word

import argparse
import hashlib
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fer_lightning import build, faces, ranks, results
from fer_lightning.cache import write_atomic
from fer_lightning.checking import check
from fer_lightning.config import compose
from fer_lightning.contracts import ClassStats
from fer_lightning.data.datamodule import FaceDataModule
from fer_lightning.errors import UserError, report, stopped_by_a_full_disk
from fer_lightning.features import Pass, state_hash
from fer_lightning.freeze import freeze
from fer_lightning.inference import load_model
from fer_lightning.measure import measure
from fer_lightning.models.network import Network
from fer_lightning.processes import ENDS_WITH_PARENT, end_with_parent
from fer_lightning.progress import Line
from fer_lightning.stages import LAST
from fer_lightning.testing import finish, watch_centers
from fer_lightning.training import Cell, Training

log = logging.getLogger("fer_lightning.run")  # not __name__, which is __main__ where this is started


def set_up(config: dict[str, Any], *, to_train: bool = True) -> Cell:
    """Load the backbone's weights, prepare the faces, and find out which cell this is.

    Args:
        config: as from ``compose``.
        to_train: or only to know the cell, on a machine that may lack the GPU that it is for.

    Raises:
        UserError: something the user can mend; nothing has been trained.
    """
    settings = build.trainer(config)
    torch.set_num_threads(settings.threads)
    if to_train and settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError("trainer: there is no CUDA device here; choose trainer=cpu")
    if to_train and settings.device == "cuda":
        ranks.take_gpu()
    build.sampler(config)  # these refuse what makes no sense before the data is touched
    build.augmentation(config)
    build.try_out(config)
    fits = build.fits(config)
    backbone = build.backbone(config, pretrained=any(fit.pretrained for _, fit in fits))
    classes = ClassStats(tuple(config["data"]["classes"]), (1,) * len(config["data"]["classes"]))
    for _, fit in fits:
        freeze(backbone, fit.freeze, fit.batch_norm)
        build.recipe(config, fit)
        build.views(config, fit)
        build.network(config, fit, backbone, backbone.num_features, classes)
    prepared = faces.store(config, Line("faces"))
    data = build.data(config, prepared)
    backbone.complete()
    protocol = build.protocol(config, prepared, minival_hash(data), backbone)
    how = Pass(settings.device, settings.precision, settings.channels_last)
    pretrained = state_hash(how.place(backbone)) if to_train else ""
    return Cell(config, backbone, pretrained, data, protocol, how)


def minival_hash(data: FaceDataModule) -> str:
    """SHA-256 of the rows that are held out."""
    return hashlib.sha256(data.minival_rows.tobytes()).hexdigest()


def tell_data(data: FaceDataModule) -> None:
    """Say what is trained on, and what was left out of it."""
    meta = data.store.meta
    counts = ", ".join(f"{name} {n}" for name, n in zip(meta.classes, data.images, strict=True))
    log.info("training on %s", counts)
    log.info("minival %d, test %d", len(data.minival_rows), sum(meta.counts["test"].values()))
    if dropped := sum(meta.dropped_leaks.values()):
        log.info("%d training images dropped: each is pixel-identical to a test image", dropped)
    for fault in meta.faults[:5]:
        log.info("set aside: %s: %s, %s", fault.path, fault.kind, fault.detail)
    if len(meta.faults) > 5:
        log.info("and %d more set aside; %s names all", len(meta.faults) - 5, data.store.folder / "store.json")


def train(config: dict[str, Any], directory: Path | None, base: Path, *, trial: bool = False) -> Path:
    """Train and test a cell, unless that was done. Returns its folder.

    Args:
        config: as from ``compose``.
        directory: the cell's folder; None: a readable name in ``base``.
        base: folder of cells.
        trial: only train, and leave the minival's score in trial.json: the test set is not looked at.

    Raises:
        UserError: something the user can mend.
    """
    begin = time.monotonic()
    cell = set_up(config)
    directory = directory or base / results.cell_name(config, cell.protocol)
    settings = build.trainer(config)
    with ExitStack() as held:
        with ranks.together(settings.device, settings.timeout):
            if ranks.is_first():
                held.enter_context(results.claimed(directory))
            if ranks.agree(_is_complete(directory, cell, trial)):
                log.info("complete: %s was there, nothing to do", directory)
                return directory
            tell_data(cell.data)
            logger = build.logger(config, cell.protocol, directory, trial=trial)
            training = Training(cell, directory, logger, watch_test=config["optimism"] and not trial)
            network = training.run()
        if ranks.is_first():
            _finish(training, network, begin, trial)
    return directory


def _is_complete(directory: Path, cell: Cell, trial: bool) -> bool:
    """Whether the cell was trained before; what its process left, if it was killed in the end, is tidied up."""
    if not ranks.is_first() or not (there := (results.read_trial if trial else results.read)(directory)):
        return False
    protocol = cell.protocol if trial else there["protocol"]
    if results.identity(there["config"], protocol) != results.identity(cell.config, cell.protocol):
        raise UserError(f"{directory} holds the result of another cell; choose another folder or delete it")
    (directory / LAST).unlink(missing_ok=True)
    return True


def _finish(training: Training, network: Network, begin: float, trial: bool) -> None:
    """Test what was trained and write the result or, for a trial, the minival's score."""
    cell, directory = training.cell, training.directory
    if trial:
        told = {
            "minival_macro_recall": training.results[-1].minival_macro_recall,
            "stages": [asdict(fit) for fit in training.results],
            "config": cell.config,
            "seconds": round(time.monotonic() - begin, 2),
        }
        write_atomic(directory / results.TRIAL, json.dumps(told))
        for needless in (results.CHECKPOINT, LAST):  # now, and not before: a fit goes on from both
            (directory / needless).unlink()
        training.logger.finish(told)
        return
    extra = {"stages": [asdict(fit) for fit in training.results], "notices": training.notices}
    extra |= watch_centers(training, network)
    best = load_model(directory / results.CHECKPOINT, build.own(cell.config))
    result = finish(directory, best, cell, begin, extra)
    (directory / LAST).unlink()
    training.logger.finish(result)
    numbers = ", ".join(f"{name} {result['metrics'][name]:.3f}" for name in ("accuracy", "macro_recall"))
    log.info("test: %s; %s", numbers, directory)


def _told(cell: Cell) -> dict[str, Any]:
    """What a sweep wants to know of a cell before it is trained."""
    return {"protocol": cell.protocol, "class_stats": asdict(cell.stats)}


def hush() -> None:
    """Leave out what a user need not read: Lightning's hints, and what the first rank says already."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("pytorch_lightning", "lightning_fabric"):
        warnings.filterwarnings("ignore", module=module)
    if not ranks.is_first():
        logging.getLogger("fer_lightning").setLevel(logging.ERROR)


def main(words: Sequence[str] | None = None) -> int:
    """Run one cell from the command line; see ``fer train --help`` for the overrides.

    Returns the exit code: 0; 1 where the cell failed; 2 after a user's mistake; 74 where something else ended it,
    75 where another process is at it. Ctrl-C ends it with 130, SIGTERM with 143.
    """
    if os.environ.pop(ENDS_WITH_PARENT, None):
        end_with_parent()
    options = _parser().parse_args(words)
    with _ended_by_signals(), report() as outcome, results.failure_noted(options.directory):
        _run(options)
    return outcome.code


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGINT and SIGTERM end the process with 128 + their number.

    A KeyboardInterrupt would not do: Lightning makes an exit code of it that means a failure.
    """

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # a shell's background jobs are not to hear of Ctrl-C
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fer_lightning.run", description=__doc__)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--config-dir", help="a folder with further options")
    parser.add_argument("--directory", type=Path, help="the cell's folder")
    parser.add_argument("--base", type=Path, default=Path("runs/adhoc"), help="or the folder to make it in")
    parser.add_argument("--protocol", type=Path, help="only set up, and write here what the cell is")
    parser.add_argument("--measure", type=Path, help="only measure steps, and write what they cost here")
    parser.add_argument("--trial", action="store_true", help="do not test: only the minival's score is kept")
    parser.add_argument("--faces", action="store_true", help="only prepare the faces")
    return parser


def _run(options: argparse.Namespace) -> None:
    config = compose(options.overrides, options.config_dir)
    trainer = config["trainer"]
    os.environ["OMP_NUM_THREADS"] = str(trainer.get("threads", 1))  # for the ranks started from here
    check(config)
    if options.faces:
        tell_data(build.data(config, faces.store(config, Line("faces"))))
    elif options.measure:
        cost = measure(config)
        prepared = cost["disk"]["faces"] == 0
        write_atomic(
            options.measure, json.dumps({**cost, **(_told(set_up(config, to_train=False)) if prepared else {})})
        )
    elif options.protocol:
        cell = set_up(config, to_train=False)
        tell_data(cell.data)
        write_atomic(options.protocol, json.dumps(_told(cell)))
    else:
        if trainer["started_by"] == "slurm":
            ranks.adopt_slurm()
        work = partial(_be_a_rank, config, options)
        if ranks.are_there() or trainer["devices"] * trainer["nodes"] == 1:
            work()
        elif trainer["nodes"] > 1:
            raise UserError(
                f"trainer.nodes={trainer['nodes']}: start the ranks with torchrun or srun, see README, Many cells"
            )
        else:
            ranks.start(work, trainer["devices"])


def _be_a_rank(config: dict[str, Any], options: argparse.Namespace) -> None:
    hush()
    with stopped_by_a_full_disk():
        train(config, options.directory, options.base, trial=options.trial)


if __name__ == "__main__":
    raise SystemExit(main())
