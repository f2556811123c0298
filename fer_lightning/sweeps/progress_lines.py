"""Progress of a sweep: a line for each run that ends, with the time left and the best run so far."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence

from fer_lightning.core.progress import duration
from fer_lightning.run import claim
from fer_lightning.sweeps import slurm_jobs
from fer_lightning.sweeps.planned_run import PlannedRun


class Progress:
    """Watches the folders of runs while any process trains them, and prints a line for each run that ends.

    On a terminal, a status line shows the runs that are being trained.

    Args:
        runs: all runs of the sweep.
        to_do: the runs that are not complete.
        count: how many runs there will be to do in all, if more are added later; by default those in ``to_do``.
    """

    def __init__(self, runs: Sequence[PlannedRun], to_do: Sequence[PlannedRun], count: int | None = None) -> None:
        self.open = list(to_do)
        self.count = len(to_do) if count is None else count
        self.ended = 0
        self.begin = time.monotonic()
        self.best: tuple[float, str] | None = None
        folders = {run.directory for run in to_do}
        for run in runs:
            if run.directory not in folders and run.is_done():
                self._update_best(run)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="progress")

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._report_ended()
        _clear_line()

    def watch(self, runs: Sequence[PlannedRun]) -> None:
        """Add runs to do; no line is printed for those that are complete already."""
        for run in runs:
            if run.is_done():
                self._update_best(run)
                self.ended += 1
            else:
                self.open.append(run)

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self._report_ended()
            self._show_status()

    def _report_ended(self) -> None:
        """Print a line for each run that has ended since the last call."""
        for run in list(self.open):
            failure = claim.read_failure(run.directory)
            if run.is_done():
                self._update_best(run)
                result = run.result()
                outcome = f"{run.score_text()}, in {duration(result.seconds if result else 0.0)}"
            elif failure is not None:
                outcome = f"failed: {failure}"
            else:
                continue
            self.open.remove(run)
            self.ended += 1
            best = f"; best by the minival {100 * self.best[0]:.1f}: {self.best[1]}" if self.best else ""
            left = f"; about {duration(self._seconds_left())} left" if self.ended < self.count else ""
            _clear_line()
            print(f"[{self.ended} of {self.count}] {run.label}: {outcome}{best}{left}", flush=True)

    def _update_best(self, run: PlannedRun) -> None:
        minival = run.score()[1]
        if self.best is None or minival > self.best[0]:
            self.best = minival, run.label

    def _running(self) -> list[PlannedRun]:
        return [run for run in self.open if claim.is_claimed(run.directory)]

    def _seconds_left(self) -> float:
        """Estimate the time left from that of the runs that have ended; a run in training counts as half done."""
        done = self.ended + 0.5 * len(self._running())
        return (time.monotonic() - self.begin) * (self.count - done) / done

    def _show_status(self) -> None:
        """Overwrite the status line on a terminal."""
        if sys.stdout.isatty():
            running = "; ".join(f"{run.label} ({run.message()})" for run in self._running())
            elapsed = duration(time.monotonic() - self.begin)
            told = f"{self.ended} of {self.count} done, {elapsed}; {self._queued()}{running}"
            print(f"\r\x1b[K{told}"[:118], end="", flush=True)

    def _queued(self) -> str:
        """Return how many jobs of SLURM wait, in words."""
        folders = {run.directory.parent for run in self.open}
        number = sum(job.waits for folder in folders for job in slurm_jobs.noted(folder).values())
        return f"{number} queued; " if number else ""


def _clear_line() -> None:
    if sys.stdout.isatty():
        print("\r\x1b[K", end="")
