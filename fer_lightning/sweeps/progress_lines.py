"""What a person sees of a sweep: a line a cell, the time left, the best so far; on a terminal, what is running."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from fer_lightning.core.progress import duration
from fer_lightning.run import claim
from fer_lightning.sweeps.planned_run import Planned


class Progress:
    """Watches the folders of cells while they are trained, by whomever, and tells of each that ends.

    Args:
        cells: all of the sweep.
        to_do: those that are not complete.
        count: how many there will be to do, where they are not all known yet.
    """

    def __init__(self, cells: Sequence[Planned], to_do: Sequence[Planned], count: int | None = None) -> None:
        self.open = list(to_do)
        self.left = self.count = len(to_do) if count is None else count
        self.begin = time.monotonic()
        self.best: tuple[float, str] | None = None
        open_ones = {cell.directory for cell in to_do}
        for cell in cells:
            if cell.directory not in open_ones and cell.is_done():
                self._remember(cell)
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

    def watch(self, cells: Sequence[Planned]) -> None:
        """More cells that are to do; of those that are complete, only how good they are is of interest."""
        for cell in cells:
            if cell.is_done():
                self._remember(cell)
                self.left -= 1
            else:
                self.open.append(cell)

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self._look()
            self._status()

    def _look(self) -> None:
        """Tell of the cells that have ended since the last look."""
        for cell in list(self.open):
            if cell.is_done():
                self._close(cell)
                self._tell(cell, self._numbers(cell))
            elif (failure := claim.read_failure(cell.directory)) is not None:
                self._close(cell)
                self._tell(cell, f"failed: {failure}")

    def _close(self, cell: Planned) -> None:
        self.open.remove(cell)
        self.left -= 1

    def _tell(self, cell: Planned, what: str) -> None:
        done = self.count - self.left
        best = f"; best by the minival {100 * self.best[0]:.1f}: {self.best[1]}" if self.best else ""
        left = f"; about {duration(self._left())} left" if self.left else ""
        _clear()
        print(f"[{done} of {self.count}] {cell.label}: {what}{best}{left}", flush=True)

    def _numbers(self, cell: Planned) -> str:
        tested, minival = cell.score()
        self._remember(cell)
        test = "" if tested is None else f"macro recall {100 * tested:.1f}, "
        seconds = float((cell.result() or {}).get("seconds", 0.0))
        return f"{test}minival {100 * minival:.1f}, in {duration(seconds)}"

    def _remember(self, cell: Planned) -> None:
        minival = cell.score()[1]
        if self.best is None or minival > self.best[0]:
            self.best = minival, cell.label

    def _running(self) -> list[Planned]:
        return [cell for cell in self.open if claim.is_claimed(cell.directory)]

    def _left(self) -> float:
        """Seconds left: what has ended took its time, a running cell counts for one half."""
        spent, halves = time.monotonic() - self.begin, 0.5 * len(self._running())
        ended = self.count - self.left + halves
        return spent * (self.left - halves) / ended

    def _status(self) -> None:
        """On a terminal: a line that is written over, with what is running."""
        if sys.stdout.isatty():
            running = "; ".join(f"{cell.label} ({cell.says()})" for cell in self._running())
            clock = duration(time.monotonic() - self.begin)
            done = self.count - self.left
            print(f"\r\x1b[K{done} of {self.count} done, {clock}; {running}"[:118], end="", flush=True)


def _clear() -> None:
    if sys.stdout.isatty():
        print("\r\x1b[K", end="")
