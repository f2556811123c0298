"""Runs as child processes: each trains in a process tree of its own, and is done when its result is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import IO, Protocol

from fer_lightning.core.processes import ENDS_WITH_PARENT, signals_held_back

_OF_ANOTHER_RUN = (
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "PL_GLOBAL_SEED",
)
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
_RUN = "fer_lightning.run"


class Child(Protocol):
    """What is asked of a child process; subprocess.Popen is one."""

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not, in so many seconds.
        """
        ...

    def terminate(self) -> None:
        """Ask it to end."""
        ...

    def kill(self) -> None:
        """Make it end."""
        ...


def child(
    words: Sequence[str], output: IO[str] | None = None, errors: IO[str] | None = None, **variables: str
) -> Child:
    """Start ``python -m fer_lightning.run`` with an environment that knows of no other run's ranks.

    Args:
        words: its command line.
        output: where its stdout goes; None: to this process's.
        errors: likewise its stderr.
        variables: more of its environment.
    """
    command = [sys.executable, "-m", _RUN, *words]
    return subprocess.Popen(command, env=_environment(variables), stdout=output, stderr=errors, text=True)


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key not in _OF_ANOTHER_RUN}
    # threads that wait for one another must not keep the cores busy: several runs go side by side
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return {**environment, ENDS_WITH_PARENT: "1", **variables}


class _Forked:
    """A child that is a fork of a process in which everything is imported."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self.terminate = process.terminate
        self.kill = process.kill

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(_RUN, timeout or 0)
        return self._process.exitcode


def fork(words: Sequence[str], log: Path, **variables: str) -> Child:
    """Like ``child``, but what runs import is imported once for all that this process starts, in a server.

    Args:
        words: its command line.
        log: what it says is added to this file.
        variables: more of its environment.
    """
    if sys.platform != "linux":  # elsewhere, system libraries do not bear it
        with log.open("a") as output:
            return child(words, output, output, **variables)
    context = get_context("forkserver")
    context.set_forkserver_preload([f"{_RUN}.__main__", "pandas"])  # which pyarrow imports, where it is there
    with _set(_ONE_THREAD):  # a process with threads must not be forked; a run sets its own number
        forkserver.ensure_running()
    process = context.Process(target=_be_a_run, args=(list(words), str(log), _environment(variables)))
    process.start()
    return _Forked(process)


@contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _be_a_run(words: list[str], log: str, environment: dict[str, str]) -> None:
    from fer_lightning.run.__main__ import main

    os.environ.clear()
    os.environ.update(environment)
    with Path(log).open("a") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    sys.exit(main(words))


def wait(start: Callable[[], Child]) -> int:
    """Start a child and wait for it. Returns its exit code; where we are interrupted, it is ended first.

    Args:
        start: starts it; a signal that comes meanwhile is held back, since nobody would end what is started.
    """
    with signals_held_back(signal.SIGINT, signal.SIGTERM) as let_through:
        process = start()
        try:
            let_through()
            return process.wait()
        except KeyboardInterrupt:
            try:
                process.wait(10)  # Ctrl-C went to it, too
            except subprocess.TimeoutExpired:
                end(process)
            raise
        except BaseException:
            end(process)
            raise


def end(process: Child) -> None:
    """Ask a child to end, and insist after fifteen seconds: it may have to insist with others before."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
