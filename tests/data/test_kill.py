"""Preparing is killed, dies, or runs twice at once: nothing is half there, nothing that was done is lost."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from layouts import put_affectnet
from processes import HANGING, tree, until_gone
from stores import content, folders, make, small

from fer_lightning.core.errors import UserError
from fer_lightning.data.store.workers import interrupt_held_back

SCRIPT = """
import os, pathlib, signal, sys, time
sys.path.insert(0, sys.argv[1])
from stores import make, small
tmp, mode = pathlib.Path(sys.argv[2]), sys.argv[3]
def progress(done, rows):
    print("working", flush=True)
    if done and mode == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)
print(make(small(tmp / "set"), tmp / "base", processes=2, progress=progress).hash)
"""

MANY = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
from stores import big, make
from fer_lightning.data.store import prepare as preparing
preparing.key.SHARD_ROWS = 4
root, base = map(pathlib.Path, sys.argv[2:])
make(big(root), base, size=64, codec="png", processes=2, progress=lambda done, _: print(done, flush=True))
"""


def _start(code: str, *words: object) -> subprocess.Popen:
    command = [sys.executable, "-c", code, str(Path(__file__).parent), *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_kill_leaves_nothing_that_looks_whole(tmp_path):
    found = small(tmp_path / "set")
    killed = _start(SCRIPT, tmp_path, "killed")
    out, _ = killed.communicate(timeout=HANGING)
    assert killed.returncode == -signal.SIGKILL
    assert out == "working\nworking\n"
    assert [name.endswith(".partial") for name in folders(tmp_path / "base")] == [True]
    store = make(found, tmp_path / "base")
    assert store.meta.counts["train"] == {"happy": 2, "fear": 2}
    assert folders(tmp_path / "base") == [store.folder.name]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.faults)])
def test_killed_many_times_it_still_ends_the_same(tmp_path, kills):
    with _start(MANY, tmp_path / "set", tmp_path / "whole") as undisturbed:
        assert undisturbed.stdout is not None
        said = [(int(line), time.monotonic()) for line in undisturbed.stdout]
    a_shard = (said[-1][1] - said[1][1]) / (len(said) - 2)
    chance = random.Random(0)
    resumed = []
    for _ in range(kills):
        with _start(MANY, tmp_path / "set", tmp_path / "base") as process:
            assert process.stdout is not None
            resumed.append(int(process.stdout.readline()))
            for _ in range(chance.randrange(4)):  # 0: it is killed while its workers start
                process.stdout.readline()
            time.sleep(chance.uniform(0, 2 * a_shard))
            workers = tree(process.pid)
            process.kill()
            assert process.wait() == -signal.SIGKILL, "it was over before the kill"
        until_gone(workers)
    with _start(MANY, tmp_path / "set", tmp_path / "base") as last:
        assert last.stdout is not None
        counted = [int(line) for line in last.stdout]
    assert last.returncode == 0
    resumed.append(counted[0])
    assert resumed == sorted(resumed)
    assert len(set(resumed)) > kills // 2
    assert counted[-1] == said[-1][0]
    assert content(tmp_path / "base") == content(tmp_path / "whole")


def test_two_processes_at_once_make_it_once(tmp_path):
    small(tmp_path / "set")
    both = [_start(SCRIPT, tmp_path, "slow") for _ in range(2)]
    said = [process.communicate(timeout=HANGING)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(len(words) for words in said) == [1, 4]  # one of them worked, in two steps
    assert said[0][-1] == said[1][-1]
    assert len(folders(tmp_path / "base")) == 1


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_workers_go_when_their_parent_is_killed(tmp_path):
    small(tmp_path / "set")
    with _start(SCRIPT, tmp_path, "slow") as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["working\n"] * 2
        workers = tree(process.pid)
        assert workers
        process.kill()
    until_gone(workers)


def test_a_worker_that_dies_is_told_in_one_line(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("fer_lightning.data.store.workers.start_worker", _die)
        with pytest.raises(UserError, match="a process that reads pictures died"):
            make(small(tmp_path / "set"), tmp_path / "base", processes=2)
    assert make(small(tmp_path / "set"), tmp_path / "base").meta.counts["train"] == {"happy": 2, "fear": 2}


def _die():
    os._exit(9)


def test_ctrl_c_waits_whichever_thread_is_handed_it():
    """Before, one that another thread took cut the start of a worker in two."""
    before, done, reached = signal.signal(signal.SIGINT, signal.default_int_handler), threading.Event(), []
    other = threading.Thread(target=done.wait)
    other.start()

    def interrupted() -> None:
        with interrupt_held_back():
            signal.pthread_kill(other.ident, signal.SIGINT)
            time.sleep(0.1)
            reached.append(True)

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        done.set()
        other.join()
        signal.signal(signal.SIGINT, before)
    assert reached == [True]


def test_ctrl_c_is_one_line(tmp_path):
    """Pressed in a terminal it reaches the command, the process that prepares and its workers, all at once."""
    put_affectnet(tmp_path / "set")
    rows = (tmp_path / "set/training.csv").read_text()
    (tmp_path / "set/training.csv").write_text(rows + 5000 * rows.partition("\n")[2])
    command = [sys.executable, "-m", "fer_lightning", "prepare", "data=affectnet", f"data.root={tmp_path / 'set'}"]
    with subprocess.Popen(
        [*command, f"data.store={tmp_path / 'stores'}"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a test in the background ignores it
    ) as process:
        while not list(tmp_path.glob("stores/*.partial/*/*.json")) and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=HANGING)
    assert errors == "fer: stopped; run the same command again to continue\n"
    assert process.returncode == 130
    assert list(tmp_path.glob("stores/*.partial"))
