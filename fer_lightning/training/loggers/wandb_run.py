"""A run at Weights & Biases: the only module that uses its client, which is imported when a run starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_lightning.core.errors import UserError
from fer_lightning.training.loggers.run_summary import About

INIT_SECONDS = 8.0
"""Seconds that the server may take to answer."""

FINISH_SECONDS = 60.0
"""Seconds that the rest of a run may take to be sent; data that are not sent by then stay on disk."""


class WandbBoard:
    """Board of a run at Weights & Biases. Closing it raises a UserError where the server is too slow.

    Args:
        run: run of the client.
    """

    def __init__(self, run: Any) -> None:
        self.run = run
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")

    def scalars(self, epoch: int, values: Mapping[str, float]) -> None:
        """Show an epoch's numbers."""
        self.run.log({**values, "epoch": epoch})

    def finish(
        self, epoch: int, summary: Mapping[str, float], pictures: Mapping[str, npt.NDArray[np.uint8]]
    ) -> None:
        """Show pictures (H, W, 3), put the result into the run's summary, and close."""
        import wandb

        if pictures:
            self.run.log({"epoch": epoch, **{name: wandb.Image(pixels) for name, pixels in pictures.items()}})
        self.run.summary.update(dict(summary))
        self._close()

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], page: Path | None) -> None:
        """Show a table and, if given, its page; then close."""
        import wandb

        shown: dict[str, Any] = {"table": wandb.Table(columns=list(columns), data=[list(row) for row in rows])}
        if page:
            shown["report"] = wandb.Html(page.read_text(encoding="utf-8"), inject=False)
        self.run.log(shown)
        self._close()

    def _close(self) -> None:
        """End the run and the client's process; until then data may not be on disk."""
        import wandb

        try:
            self.run.finish()
        except TimeoutError as error:
            folder = Path(self.run.dir).parent
            raise UserError(
                f"wandb: not all was sent in {FINISH_SECONDS:.0f} s; later: wandb sync --include-online {folder}"
            ) from error
        finally:
            wandb.teardown()


def start(about: About, directory: Path, project: str, *, offline: bool, notes: str = "") -> WandbBoard:
    """Start a run. Earlier ones of the same id in the folder are deleted, since each shows all epochs in the end.

    Only logged data are sent: no paths, host, user, code, packages, output or use of the machine.

    Args:
        about: identity of the run.
        directory: folder in which the client writes its folder ``wandb``.
        project: project at Weights & Biases.
        offline: whether to keep the run there, for ``wandb sync``.
        notes: text to show with the run.

    Raises:
        UserError: there is no account, or the server did not answer in time.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # the process would wait for it at its end
    import wandb

    directory.mkdir(parents=True, exist_ok=True)
    _forget(directory, about.id)
    wandb.setup(wandb.Settings(silent=True))  # without output and, without an account, without a prompt
    try:
        run = wandb.init(
            id=about.id,
            name=about.name,
            group=about.group,
            job_type=about.job,
            tags=list(about.tags),
            config=about.config,
            notes=notes or None,
            project=project,
            dir=str(directory),
            mode="offline" if offline else "online",
            reinit="finish_previous",  # one that failed in this process
            settings=_settings(wandb),
        )
    except Exception as error:
        wandb.teardown()  # releases the id
        _forget(directory, about.id)
        if offline:
            raise
        reason = str(error).partition("\n")[0]
        raise UserError(f"wandb: the run could not begin: {type(error).__name__}: {reason}") from error
    return WandbBoard(run)


def _forget(directory: Path, identity: str) -> None:
    for earlier in (directory / "wandb").glob(f"*run-*-{identity}"):
        shutil.rmtree(earlier, ignore_errors=True)


def _settings(wandb: Any) -> Any:
    return wandb.Settings(
        silent=True,
        console="off",
        host="",
        program="",
        x_executable="",
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_save_requirements=False,
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
        finish_timeout_raises=True,
    )
