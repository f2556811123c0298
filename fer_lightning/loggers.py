"""Where the scalars of a fit are logged: one logger a fit, its files in the cell's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only


def none(directory: Path, fit: str, config: dict[str, Any]) -> bool:
    """No logger."""
    return False


def csv(directory: Path, fit: str, config: dict[str, Any]) -> Logger:
    """``logs/<fit>/metrics.csv`` in the cell's folder; of a fit that was interrupted, earlier parts beside it."""
    _set_aside(directory / "logs" / fit / "metrics.csv")
    return CSVLogger(directory, name="logs", version=fit)


@rank_zero_only
def _set_aside(written: Path) -> None:
    """Give a file that the logger would delete another name."""
    if written.exists():
        parts = len(list(written.parent.glob("metrics-*.csv")))
        written.rename(written.with_name(f"metrics-{parts + 1}.csv"))


def tensorboard(directory: Path, fit: str, config: dict[str, Any]) -> Logger:
    """TensorBoard events under ``logs/<fit>`` in the cell's folder."""
    return TensorBoardLogger(directory, name="logs", version=fit)


def wandb(directory: Path, fit: str, config: dict[str, Any], *, project: str, offline: bool) -> Logger:
    """A Weights & Biases run a fit, grouped by the folder of cells.

    Args:
        directory: the cell's.
        fit: its name is the run's job type.
        config: shown with the run.
        project: at Weights & Biases.
        offline: keep the run under the cell's folder; ``wandb sync`` uploads it.
    """
    import wandb as client
    from pytorch_lightning.loggers import WandbLogger

    if client.run is not None:  # the stage before would go on in this one's run
        client.finish()
    return WandbLogger(
        name=directory.name,
        save_dir=directory,
        project=project,
        offline=offline,
        group=directory.parent.name,
        job_type=fit,
        config=config,
        settings=client.Settings(silent=True, disable_git=True),
    )
