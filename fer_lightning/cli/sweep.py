"""``fer sweep``: show the state of each run in a folder, or cancel their jobs of SLURM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.core.parser import Parser


def sweep(words: Sequence[str]) -> int:
    """Run ``fer sweep``.

    Returns:
        The exit code: 1 if a run failed.

    Raises:
        UserError: the folder does not exist, or no run was planned or trained in it; SLURM does not answer.
    """
    parser = Parser(
        prog="fer sweep",
        description="status: show whether each run in a folder is done, running, queued, failed, stopped or "
        "missing. cancel: cancel the jobs of SLURM that train its runs; the sweep's command submits them again.",
    )
    parser.add_argument("action", choices=["status", "cancel"])
    parser.add_argument("folder", type=Path, help="the folder of a sweep or table, e.g. runs/adhoc")
    options = parser.parse_args(words)
    if not options.folder.is_dir():
        raise UserError(f"{options.folder}: no such folder; give that of a sweep or table, e.g. runs/adhoc")
    from fer_lightning.sweeps import status  # imports Arrow, for which --help must not wait

    if options.action == "status":
        return status.show(options.folder)
    status.cancel(options.folder)
    return 0
