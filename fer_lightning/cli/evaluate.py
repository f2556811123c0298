"""``fer evaluate CHECKPOINT``: test a trained model on its own data set or on another one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fer_lightning.config.overrides import RUN_DIR, apart, refuse
from fer_lightning.core.files import require_checkpoint, user_path
from fer_lightning.core.parser import Parser
from fer_lightning.sweeps.hydra_launchers import run_folder


def evaluate(words: Sequence[str]) -> int:
    """Run ``fer evaluate``; return the exit code.

    Raises:
        UserError: the user can mend it.
    """
    parser = Parser(
        prog="fer evaluate", description="Test a checkpoint, on the data it was trained with or on another set."
    )
    parser.add_argument("checkpoint", type=Path, help="a run's best.ckpt")
    parser.add_argument("overrides", nargs="*", help="of data and trainer, and hydra.run.dir=FOLDER")
    parser.add_argument("--config-dir", help="a folder with further options; code of your own lies beside it")
    options = parser.parse_intermixed_args(words)
    overrides, of_hydra = apart(options.overrides)
    refuse(of_hydra, lambda key: key != RUN_DIR, "fer evaluate", "hydra.run.dir=FOLDER")
    directory = run_folder([], of_hydra)
    path = user_path(options.checkpoint)
    require_checkpoint(path)
    from fer_lightning.run.evaluate_checkpoint import evaluate_checkpoint  # importing PyTorch takes seconds

    evaluate_checkpoint(path, overrides, directory, options.config_dir)
    return 0
