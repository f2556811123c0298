"""One run: data, stages, test, result. A process of its own: ``python -m fer_lightning.run OVERRIDE...``."""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while PyTorch is being imported ends it without a word

import argparse
import json
import os
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
from fer_lightning.core.processes import ENDS_WITH_PARENT, end_with_parent
from fer_lightning.core.progress import Line
from fer_lightning.data import dataset
from fer_lightning.run import build, claim, start_ranks
from fer_lightning.run.check_config import check
from fer_lightning.run.estimate_cost import measure
from fer_lightning.run.set_up import RunSetup, hush, set_up, tell_data
from fer_lightning.run.train_and_test import train
from fer_lightning.training import distributed


def _told(setup: RunSetup) -> dict[str, Any]:
    """What a sweep wants to know of a run before it is trained."""
    return {"protocol": setup.protocol, "class_stats": asdict(setup.stats)}


def main(words: Sequence[str] | None = None) -> int:
    """Train one run from the command line; see ``fer train --help`` for the overrides.

    Returns the exit code: 0; 1 where the run failed; 2 after a user's mistake; 74 where something else ended it,
    75 where another process is at it. Ctrl-C ends it with 130, SIGTERM with 143.
    """
    if os.environ.pop(ENDS_WITH_PARENT, None):
        end_with_parent()
    with _ended_by_signals(), report() as outcome:
        options = _parser().parse_args(words)
        with claim.failure_noted(options.directory):
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


def _parser() -> Parser:
    parser = Parser(prog="python -m fer_lightning.run", description=__doc__)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--config-dir", help="a folder with further options")
    parser.add_argument("--directory", type=Path, help="the run's folder")
    parser.add_argument("--base", type=Path, default=Path("runs/adhoc"), help="or the folder to make it in")
    parser.add_argument("--protocol", type=Path, help="only set up, and write here what the run is")
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
        draw, augment = build.sampler(config), build.augmentation(config)
        tell_data(build.data(config, dataset.store(config, Line("faces")), draw, augment))
    elif options.measure:
        cost = measure(config)
        prepared = cost["disk"]["faces"] == 0
        write_atomic(
            options.measure, json.dumps({**cost, **(_told(set_up(config, to_train=False)) if prepared else {})})
        )
    elif options.protocol:
        setup = set_up(config, to_train=False)
        tell_data(setup.data)
        write_atomic(options.protocol, json.dumps(_told(setup)))
    else:
        if trainer["started_by"] == "slurm":
            start_ranks.adopt_slurm()
        work = partial(_be_a_rank, config, options)
        if distributed.are_there() or trainer["devices"] * trainer["nodes"] == 1:
            work()
        elif trainer["nodes"] > 1:
            raise UserError(
                f"trainer.nodes={trainer['nodes']}: start the ranks with torchrun or srun, "
                "see fer_lightning/sweeps/README.md"
            )
        else:
            start_ranks.start(work, trainer["devices"])


def _be_a_rank(config: dict[str, Any], options: argparse.Namespace) -> None:
    hush()
    with stopped_by_a_full_disk():
        train(config, options.directory, options.base, trial=options.trial)


if __name__ == "__main__":
    raise SystemExit(main())
