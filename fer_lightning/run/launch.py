"""Runs as child processes; each trains in a process tree of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver, parent_process
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import IO

from fer_lightning.core.errors import RunFailed, Stopped
from fer_lightning.core.processes import (
    ASKING_TO_END,
    ENDS_WITH_PARENT,
    FROM_CLUSTERS,
    crash,
    end_with_parent,
    signal_name,
    signals_held_back,
    signals_ignored,
)

_RANK_VARIABLES = (
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


class ForkedRun(ForkServerProcess):
    """Run that is a fork of a process in which everything is imported; it has the interface of Popen."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process, and return its exit code.

        Raises:
            subprocess.TimeoutExpired: it did not end within ``timeout`` seconds.
        """
        self.join(timeout)
        if self.exitcode is None:
            raise subprocess.TimeoutExpired(_RUN, timeout or 0)
        return self.exitcode


Child = subprocess.Popen[str] | ForkedRun


def child(words: Sequence[str], output: IO[str] | None = None, **variables: str) -> Child:
    """Start ``python -m fer_lightning.run`` in an environment without the variables of another run's ranks.

    Args:
        words: its command line.
        output: file for its stdout and stderr; None: those of this process.
        variables: further variables of its environment.
    """
    command = [sys.executable, "-m", _RUN, *words]
    environment = {**_environment(variables), ENDS_WITH_PARENT: str(os.getpid())}
    return subprocess.Popen(command, env=environment, stdout=output, stderr=output, text=True)


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key not in _RANK_VARIABLES}
    # waiting threads must not keep cores busy, since several runs share them
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return {**environment, **variables}


def fork(words: Sequence[str], log: Path, **variables: str) -> Child:
    """Start a run like ``child``, as a fork of a server that imports all modules once for all runs.

    Args:
        words: its command line.
        log: file that its stdout and stderr are appended to.
        variables: further variables of its environment.
    """
    if sys.platform != "linux":  # elsewhere, system libraries do not work after a fork
        with log.open("a", encoding="utf-8") as output:
            return child(words, output, **variables)
    forkserver.set_forkserver_preload([f"{_RUN}.__main__", "pandas"])  # pyarrow imports pandas if it is installed
    before = dict(os.environ)
    # a process with threads must not be forked; runs set their own number
    os.environ.update({**_ONE_THREAD, ENDS_WITH_PARENT: str(os.getpid())})
    try:
        with signals_ignored(
            *FROM_CLUSTERS
        ):  # which SLURM sends to all processes of a job: this one ends the runs
            forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    process = ForkedRun(target=_run_forked, args=(list(words), str(log), _environment(variables)))
    process.start()
    return process


def _run_forked(words: list[str], log: str, environment: dict[str, str]) -> None:
    end_with_parent(os.getppid())  # the server, which ends with the process that asked for this run
    requester = parent_process()
    if requester is None or not requester.is_alive():
        os.kill(os.getpid(), signal.SIGKILL)  # both have ended before this process could notice
    from fer_lightning.run.__main__ import main

    os.environ.clear()
    os.environ.update(environment)
    with Path(log).open("a", encoding="utf-8") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    sys.exit(main(words))


def wait(start: Callable[[], Child]) -> int:
    """Start a child, wait for it, and return its exit code; on an interruption the child is ended first.

    Args:
        start: starts the child. Signals are held back meanwhile, so that no child is left without being ended.
    """
    with signals_held_back(*ASKING_TO_END) as deliver:
        process = start()
        try:
            deliver()
            return process.wait()
        except KeyboardInterrupt:
            try:
                process.wait(10)  # Ctrl-C has reached it, too
            except subprocess.TimeoutExpired:
                end(process)
            raise
        except BaseException:
            end(process)
            raise


def code_of(start: Callable[[], Child]) -> int:
    """Wait for a child like ``wait``, and return its exit code.

    Raises:
        RunFailed: it crashed.
        Stopped: another signal ended it.
    """
    code = wait(start)
    if name := crash(code):
        raise RunFailed(f"ended by {name}")
    if code < 0:
        raise Stopped(f"ended by {signal_name(code)}; the same command goes on with it")
    return code


def end(process: Child) -> None:
    """Terminate a child, and kill it after 15 seconds; it may have to end children of its own before."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
