"""Small runs, and commands in this process: what a user types, without seconds of imports for each.

The runs themselves are forks of one process that has imported everything, as in a sweep.
"""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import IO, Any, NamedTuple
from unittest import mock

import torch
from processes import HANGING, tree, wait_until

from fer_lightning.cli.main import main
from fer_lightning.evaluation import results
from fer_lightning.run import launch

SMALL = [
    *("data.rows=160", "data.test_per_class=3", "data.size=32", "data.minival=0.2", "data.batch_size=16"),
    *(
        "backbone.people=4",
        "backbone.pictures=8",
        "backbone.epochs=1",
        "backbone.size=32",
        "backbone.batch_size=8",
    ),
]
"""Words of a run over 160 drawn faces from a backbone that has seen 32: about a second with all its stages."""


class Outcome(NamedTuple):
    """The exit code of a command and what it wrote."""

    code: int
    out: str
    err: str


def fer(*words: str, folder: Path | None = None) -> Outcome:
    """Run `fer` with these words in this process, as if it stood in a folder."""
    out, err = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(out)
    logger = logging.getLogger("fer_lightning")
    logger.addHandler(handler)
    before = signal.getsignal(signal.SIGTERM)
    try:
        place = chdir(folder) if folder else nullcontext()
        with place, _forked_children(out, err), redirect_stdout(out), redirect_stderr(err):
            code = main(list(words))
    except SystemExit as ended:  # after a signal
        code = int(ended.code or 0)
    finally:
        logger.removeHandler(handler)
        signal.signal(signal.SIGTERM, before)
    return Outcome(code, out.getvalue(), err.getvalue())


def terminated(*words: str, when: Callable[[], bool]) -> tuple[Outcome, list[int]]:
    """Run `fer` in this process and send it a SIGTERM at a moment. Returns the runs that there were then, too."""
    handler = signal.signal(signal.SIGTERM, lambda *_: None)  # one that comes too late is not to end the tests
    runs: list[int] = []
    over = threading.Event()

    def terminate() -> None:
        while not when():
            if over.wait(0.02):
                return
        runs.extend(run for server in tree(os.getpid()) for run in tree(server))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    thread.start()
    outcome = fer(*words)
    over.set()
    thread.join()
    signal.signal(signal.SIGTERM, handler)
    return outcome, runs


class _Child:
    """A forked run whose output is passed on when it has ended."""

    def __init__(
        self, words: Sequence[str], out: io.StringIO, err: io.StringIO, variables: dict[str, str]
    ) -> None:
        self.log = Path(tempfile.mkstemp(suffix=".log")[1])
        self.process = launch.fork(words, self.log, **variables)
        self.out, self.err = out, err
        self.terminate, self.kill = self.process.terminate, self.process.kill

    def wait(self, timeout: float | None = None) -> int:
        code = self.process.wait(timeout)
        for line in self.log.read_text().splitlines(keepends=True):
            (self.err if line.startswith("fer: ") else self.out).write(line)
        self.log.unlink()
        return code


@contextmanager
def _forked_children(out: io.StringIO, err: io.StringIO) -> Iterator[None]:
    """Let a single run be a fork, too, where a command would start an interpreter for it."""

    def child(words: Sequence[str], output: IO[str] | None = None, **variables: str) -> _Child:
        assert output is None
        return _Child(words, out, err, variables)

    with mock.patch.object(launch, "child", child):
        yield


class Started:
    """A run in a process of its own, which tests stop in the middle."""

    def __init__(self, words: Sequence[str], directory: Path, **variables: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory.with_name(f"{directory.name}.{time.monotonic_ns()}.log")
        self.process: Any = launch.fork(["--directory", str(directory), *words], self.log, **variables)
        self.pid: int = self.process.pid

    def until(self, sign: str) -> str:
        """Wait for a line that holds a sign. Returns what was said by then."""
        wait_until(lambda: self.process.exitcode is not None or sign in self.said(), sign)
        said = self.said()
        assert sign in said, f"it ended without saying {sign!r}: {said}"
        return said

    def said(self) -> str:
        """What it said so far."""
        return self.log.read_text() if self.log.exists() else ""

    def rest(self) -> str:
        """Wait until it ends well. Returns all that it said."""
        code = self.process.wait(HANGING)
        assert code == 0, self.said()
        return self.said()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait(HANGING)


def result(folder: Path) -> dict[str, Any]:
    """A run's result.json."""
    return dict(json.loads((folder / results.RESULT).read_text()))


def scores(folder: Path) -> dict[str, Any]:
    """What a run comes to: everything in its result that the test set decides."""
    return {key: result(folder)[key] for key in ("metrics", "confusion", "per_class_recall", "posthoc")}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights that a run has kept, in float64."""
    state = torch.load(folder / results.CHECKPOINT, weights_only=True)["state_dict"]
    return {name: value.double() for name, value in state.items()}
