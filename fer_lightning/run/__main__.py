"""Process of one run, from data to result: ``python -m fer_lightning.run OVERRIDE...``."""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback on Ctrl-C while PyTorch is imported

import os

from fer_lightning.core.processes import ASKING_TO_END, ENDS_WITH_PARENT, end_with_parent

if ENDS_WITH_PARENT in os.environ:  # not later, since it takes seconds to import PyTorch
    end_with_parent(int(os.environ.pop(ENDS_WITH_PARENT)))

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from fer_lightning.config.compose import compose
from fer_lightning.core.errors import UserError, report, stopped_by_a_full_disk
from fer_lightning.core.files import write_atomic
from fer_lightning.core.parser import Parser
from fer_lightning.core.progress import Line
from fer_lightning.data import dataset
from fer_lightning.run import build, claim, start_ranks
from fer_lightning.run.check_config import check
from fer_lightning.run.estimate_cost import measure
from fer_lightning.run.set_up import RunSetup, log_data, quiet_logs, set_up
from fer_lightning.run.train_and_test import train
from fer_lightning.training import distributed


def _planning_data(setup: RunSetup) -> dict[str, Any]:
    """Return what a sweep needs to know of a run before it is trained."""
    store = setup.data.store
    prepared = [str(store.folder.resolve()), store.meta.content_hash]
    return {"protocol": setup.protocol, "class_stats": asdict(setup.stats), "prepared": prepared}


def main(words: Sequence[str] | None = None) -> int:
    """Train one run from the command line; see ``fer train --help`` for the overrides.

    Returns:
        The exit code: 0; 1 if the run failed; 2 for a mistake of the user; 74 if something else ended the run; 75
        if another process trains it. Ctrl-C ends the process with 130, SIGTERM with 143.
    """
    with _exit_on_signals(), report() as outcome:
        options = _parser().parse_args(words)
        with claim.failure_noted(options.directory):
            _run(options)
    return outcome.code


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Let signals that ask the process to end do so with 128 plus their number.

    Lightning would turn a KeyboardInterrupt into the exit code of a failure.
    """

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in ASKING_TO_END}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as background jobs of a shell do with Ctrl-C
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _parser() -> Parser:
    parser = Parser(prog="python -m fer_lightning.run", description=__doc__)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--config-dir", help="a folder with further options")
    parser.add_argument("--directory", type=Path, help="folder of the run")
    parser.add_argument(
        "--base", type=Path, default=Path("runs/adhoc"), help="folder to create the folder of the run in"
    )
    parser.add_argument("--protocol", type=Path, help="only set up, and write to this file what the run is")
    parser.add_argument("--measure", type=Path, help="only measure steps, and write their cost to this file")
    parser.add_argument("--trial", action="store_true", help="do not test: keep only the score on the minival")
    parser.add_argument(
        "--prepared",
        nargs=2,
        metavar=("FOLDER", "DIGEST"),
        help="the store that was prepared when the run was planned; the data set is not looked at again",
    )
    parser.add_argument("--faces", action="store_true", help="only prepare the faces")
    return parser


def _run(options: argparse.Namespace) -> None:
    config = compose(options.overrides, options.config_dir)
    trainer = config["trainer"]
    os.environ["OMP_NUM_THREADS"] = str(trainer.get("threads", 1))  # for the ranks
    check(config, to_train=not options.faces)
    if options.faces:
        log_data(build.data(config, dataset.store(config, Line("faces"))))
    elif options.measure:
        cost = measure(config)
        if cost["disk"]["faces"] == 0:  # they are prepared
            cost |= _planning_data(set_up(config, to_train=False))
        write_atomic(options.measure, json.dumps(cost))
    elif options.protocol:
        setup = set_up(config, to_train=False)
        log_data(setup.data)
        write_atomic(options.protocol, json.dumps(_planning_data(setup)))
    else:
        if trainer["started_by"] == "slurm":
            start_ranks.adopt_slurm()
        work = partial(_train, config, options)
        if distributed.is_rank() or trainer["devices"] * trainer["nodes"] == 1:
            work()
        elif trainer["nodes"] > 1:
            raise UserError(
                f"trainer.nodes={trainer['nodes']}: start the ranks with torchrun or srun, "
                "see fer_lightning/sweeps/README.md"
            )
        else:
            start_ranks.start(work, trainer["devices"])


def _train(config: dict[str, Any], options: argparse.Namespace) -> None:
    quiet_logs()
    with stopped_by_a_full_disk():
        open_faces = None
        if options.prepared:
            folder, digest = options.prepared
            open_faces = partial(dataset.prepared_store, config, Path(folder), digest)
        train(config, options.directory, options.base, trial=options.trial, open_faces=open_faces)


if __name__ == "__main__":
    raise SystemExit(main())
