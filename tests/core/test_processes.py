"""Processes that end with those who started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context

import pytest
from joblib import Parallel, delayed
from processes import is_there, until_gone

from fer_lightning.core.processes import ProcessId, end_with, end_with_parent


def _watches(process: ProcessId) -> bool:
    """Return whether this process watches another one, a moment after it was asked to."""
    end_with(process)
    threads = [thread for thread in threading.enumerate() if thread.name == "end with another process"]
    for thread in threads:
        thread.join(timeout=0.3)
    return len(threads) == 1 and threads[0].is_alive()


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_worker_of_joblib_watches_its_parent(backend: str) -> None:
    own = ProcessId.own()
    assert all(Parallel(n_jobs=2, backend=backend)(delayed(_watches)(own) for _ in range(2)))


def test_nothing_ends_with_a_process_of_another_machine() -> None:
    with get_context("fork").Pool(1) as pool:
        assert not pool.apply(_watches, [replace(ProcessId.own(), machine="another")])


def test_a_process_is_not_taken_for_a_later_one_of_the_same_number() -> None:
    own = ProcessId.own()
    assert own.is_running()
    assert not replace(own, start="1").is_running()
    with subprocess.Popen(["sleep", "60"]) as other:
        of_other = ProcessId.of(other.pid)
        assert of_other.is_running()
        other.kill()
        until_gone([other.pid])
        assert not of_other.is_running(), "it has ended, and nobody has asked for its exit code"


def _family(tie: Callable[[int], None]) -> list[int]:
    """Start a process whose child is stuck in a call of C that lets no thread run, kill it; the child's id."""
    reader, writer = os.pipe()
    if (parent := os.fork()) == 0:
        own = os.getpid()
        if os.fork() == 0:
            tie(own)
            os.write(writer, f"{os.getpid()} ".encode())
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            ctypes.PyDLL(None).sleep(600)
        signal.pause()
    child = int(os.read(reader, 20))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    return [child]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread watches the parent")
def test_a_stuck_process_ends_with_its_parent() -> None:
    until_gone(_family(end_with_parent), 10)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread watches the parent")
def test_a_process_whose_parent_has_ended_already_ends() -> None:
    if (child := os.fork()) == 0:
        end_with_parent(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not is_there(child)
