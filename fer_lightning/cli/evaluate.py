"""``fer evaluate CHECKPOINT``: test a trained model, on the data it was made for or on another set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fer_lightning.config.overrides import RUN_DIR, apart, refuse
from fer_lightning.core.files import require_checkpoint
from fer_lightning.core.parser import Parser
from fer_lightning.sweeps.hydra_launchers import run_folder


def evaluate(words: Sequence[str]) -> int:
    """Run ``fer evaluate`` with these words. Returns the exit code.

    Raises:
        UserError: something the user can mend.
    """
    options = _parser().parse_intermixed_args(words)
    overrides, of_hydra = apart(options.overrides)
    refuse(of_hydra, lambda key: key != RUN_DIR, "fer evaluate", "hydra.run.dir=FOLDER")
    directory = run_folder([], of_hydra)
    path = options.checkpoint.expanduser()
    require_checkpoint(path)
    from fer_lightning.run.evaluate_checkpoint import evaluate_checkpoint  # PyTorch takes seconds

    evaluate_checkpoint(path, overrides, directory, options.config_dir)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="fer evaluate", description="Test a checkpoint, on the data it was made for or on another set."
    )
    parser.add_argument("checkpoint", type=Path, help="a run's best.ckpt")
    parser.add_argument("overrides", nargs="*", help="of data and trainer, and hydra.run.dir=FOLDER")
    parser.add_argument("--config-dir", help="a folder with further options; code of your own lies beside it")
    return parser
