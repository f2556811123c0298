"""What a person sees of a sweep: a line a run, the time left, the best so far; on a terminal, what is running."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from fer_lightning.core.progress import duration
from fer_lightning.run import claim
from fer_lightning.sweeps.planned_run import PlannedRun


class Progress:
    """Watches the folders of runs while they are trained, by whomever, and tells of each that ends.

    Args:
        runs: all of the sweep.
        to_do: those that are not complete.
        count: how many there will be to do, where they are not all known yet.
    """

    def __init__(self, runs: Sequence[PlannedRun], to_do: Sequence[PlannedRun], count: int | None = None) -> None:
        self.open = list(to_do)
        self.left = self.count = len(to_do) if count is None else count
        self.begin = time.monotonic()
        self.best: tuple[float, str] | None = None
        open_ones = {run.directory for run in to_do}
        for run in runs:
            if run.directory not in open_ones and run.is_done():
                self._remember(run)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="progress")

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()
        _clear()

    def watch(self, runs: Sequence[PlannedRun]) -> None:
        """More runs that are to do; of those that are complete, only how good they are is of interest."""
        for run in runs:
            if run.is_done():
                self._remember(run)
                self.left -= 1
            else:
                self.open.append(run)

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self._look()
            self._status()

    def _look(self) -> None:
        """Tell of the runs that have ended since the last look."""
        for run in list(self.open):
            if run.is_done():
                self._close(run)
                self._tell(run, self._numbers(run))
            elif (failure := claim.read_failure(run.directory)) is not None:
                self._close(run)
                self._tell(run, f"failed: {failure}")

    def _close(self, run: PlannedRun) -> None:
        self.open.remove(run)
        self.left -= 1

    def _tell(self, run: PlannedRun, what: str) -> None:
        done = self.count - self.left
        best = f"; best by the minival {100 * self.best[0]:.1f}: {self.best[1]}" if self.best else ""
        left = f"; about {duration(self._left())} left" if self.left else ""
        _clear()
        print(f"[{done} of {self.count}] {run.label}: {what}{best}{left}", flush=True)

    def _numbers(self, run: PlannedRun) -> str:
        tested, minival = run.score()
        self._remember(run)
        test = "" if tested is None else f"macro recall {100 * tested:.1f}, "
        result = run.result()
        return f"{test}minival {100 * minival:.1f}, in {duration(result.seconds if result else 0.0)}"

    def _remember(self, run: PlannedRun) -> None:
        minival = run.score()[1]
        if self.best is None or minival > self.best[0]:
            self.best = minival, run.label

    def _running(self) -> list[PlannedRun]:
        return [run for run in self.open if claim.is_claimed(run.directory)]

    def _left(self) -> float:
        """Seconds left: what has ended took its time, a running run counts for one half."""
        spent, halves = time.monotonic() - self.begin, 0.5 * len(self._running())
        ended = self.count - self.left + halves
        return spent * (self.left - halves) / ended

    def _status(self) -> None:
        """On a terminal: a line that is written over, with what is running."""
        if sys.stdout.isatty():
            running = "; ".join(f"{run.label} ({run.says()})" for run in self._running())
            clock = duration(time.monotonic() - self.begin)
            done = self.count - self.left
            print(f"\r\x1b[K{done} of {self.count} done, {clock}; {running}"[:118], end="", flush=True)


def _clear() -> None:
    if sys.stdout.isatty():
        print("\r\x1b[K", end="")
