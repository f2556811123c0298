"""A sweep of two-rank runs that is killed again and again ends with the table of one that was left alone.

All of it takes minutes: `make test-faults`. A short part of it runs with the other tests.
"""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from processes import is_there, tree, until_gone

from fer_lightning.evaluation import results
from fer_lightning.sweeps import planned_run
from fer_lightning.sweeps.planned_run import State

SWEEP = [
    *("data.rows=803", "data.minival=0.3", "data.batch_size=32", "backbone.people=20", "backbone.pictures=10"),
    *("backbone.epochs=1", "stage.epochs=3", "optimizer.lr=0.003", "class_weights=min_over_count"),
    *("trainer=ddp_cpu", "loss=softmax,cluster,center", "seed=0,1"),
]
VICTIMS = ("parent", "rank 0", "rank 1", "group")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)

Sweep = subprocess.Popen[str]
Fault = tuple[str, signal.Signals]


def start(folder: Path, words: list[str]) -> Sweep:
    """``fer train -m`` in a process group of its own; its first stages are trained anew for each folder."""
    command = [sys.executable, "-m", "fer_lightning", "train", "-m", *words, f"hydra.sweep.dir={folder}"]
    cache = Path(os.environ["FER_CACHE"])
    own = folder.parent / f"cache of {folder.name}"
    if not own.exists():
        shutil.copytree(cache, own, ignore=shutil.ignore_patterns("stages"))
    environment = {**os.environ, "FER_CACHE": str(own)}
    log = (folder.parent / f"{folder.name}.log").open("a")
    return subprocess.Popen(
        command, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def ranks_of(sweep: Sweep) -> list[int]:
    """Process ids of the ranks that train now: the two children of the run, which is the server's only child."""
    for pid in tree(sweep.pid):
        own = tree(pid)
        if len(own) == 2 and all(not tree(rank) for rank in own):
            return own
    return []


def kill(sweep: Sweep, victim: str, sign: signal.Signals) -> bool:
    """Send a signal; False where there is nobody to send it to at this moment."""
    if victim == "parent":
        sweep.send_signal(sign)
    elif victim == "group":
        os.killpg(sweep.pid, sign)
    else:
        ranks = ranks_of(sweep)
        if not ranks:
            return False
        os.kill(ranks[int(victim[-1])], sign)
    return True


def digits(folder: Path) -> dict[str, Any]:
    """All numbers of a sweep that training decides, by run."""
    found = {}
    for path in folder.glob("*/result.json"):
        told = json.loads(path.read_text())
        kept = ("metrics", "confusion", "per_class_recall", "posthoc", "center_drift")
        stages = [[stage["best_epoch"], stage["minival_macro_recall"]] for stage in told["stages"]]
        found[path.parent.name] = {"stages": stages, **{key: told.get(key) for key in kept}}
    return found


def table(folder: Path) -> list[dict[str, str]]:
    """The table that is made of a folder, as numbers with all their digits."""
    show = [sys.executable, "-m", "fer_lightning", "table", "show", str(folder), "--out", str(folder / "table")]
    subprocess.run(show, check=True, capture_output=True)
    with (folder / "table/table.csv").open() as stream:
        return list(csv.DictReader(stream))


def whole_files(folder: Path) -> dict[str, tuple[int, int]]:
    """The complete runs, and when their results and their last checkpoints were written."""
    return {
        path.parent.name: (path.stat().st_mtime_ns, (path.parent / results.CHECKPOINT).stat().st_mtime_ns)
        for path in folder.glob("*/result.json")
    }


def torment(
    folder: Path, words: list[str], faults: list[tuple[str, signal.Signals]], chance: random.Random
) -> None:
    """Kill a sweep once for each fault, start it again where it is gone, until all runs are there."""
    complete: dict[str, tuple[int, int]] = {}
    code: int | None = None
    waiting = list(faults)
    moment = 0.0
    deadline = time.monotonic() + 60 * (3 + 2 * len(faults))
    while code != 0:
        assert time.monotonic() < deadline, f"not done in time; {len(waiting)} faults were still to come"
        sweep = start(folder, words)
        while sweep.poll() is None:
            if not waiting:
                sweep.wait(600)
                break
            time.sleep(0.1)
            there = tree(sweep.pid)
            begun = len(list(folder.glob("*/log.txt")))
            if begun < 1 + 4 * (len(faults) - len(waiting)) // len(faults):
                moment = time.monotonic() + chance.uniform(0, 2.5)
                continue  # faults are spread over the sweep, from its first run to its fourth
            if time.monotonic() < moment:
                continue
            if sweep.poll() is None and kill(sweep, *waiting[0]):
                victim, sign = waiting.pop(0)
                moment = time.monotonic() + chance.uniform(0, 2.5)
                print(f"{time.strftime('%X')} {sign.name} to {victim}, {begun} runs begun", flush=True)
                if victim in ("parent", "group"):
                    expected = 128 + sign if sign != signal.SIGKILL else -sign
                    assert sweep.wait(60) in (expected, -sign), (victim, sign)
                    until_gone(there)
                for path in folder.glob("*/result.json"):
                    json.loads(path.read_text())  # whole
        code = sweep.returncode
        assert not [run.label for run in planned_run.read(folder) if run.state() == State.FAILED]
        now = whole_files(folder)
        assert complete.items() <= now.items(), "a complete run was trained again"
        complete = now
        assert not any(is_there(pid) for pid in tree(sweep.pid))
    assert not waiting, "it was done before all faults had come"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "undisturbed"
    folder.mkdir()
    assert start(folder, SWEEP).wait(600) == 0
    return folder


def same_in_the_end(undisturbed: Path, folder: Path) -> None:
    assert len(digits(folder)) == 6
    assert digits(folder) == digits(undisturbed)
    assert table(folder) == table(undisturbed)
    assert {run.state() for run in planned_run.read(folder)} == {State.DONE}
    left = {path.name for path in folder.glob("*-*/*")} | {path.name for path in folder.glob("*-*/.*")}
    kept = {"result.json", "predictions.parquet", "embeddings.npz", "embedding2d.npz", "best.ckpt", "logs"}
    assert left <= {*kept, "log.txt", ".lock"}


@pytest.mark.faults
def test_killed_at_twelve_random_moments(undisturbed: Path) -> None:
    seed = random.randrange(1000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    faults = [(victim, sign) for victim in VICTIMS for sign in SIGNALS]
    chance.shuffle(faults)
    folder = undisturbed.parent / "killed"
    folder.mkdir()
    torment(folder, SWEEP, faults, chance)
    same_in_the_end(undisturbed, folder)


def test_killed_twice(undisturbed: Path) -> None:
    """Rank 1, and then everybody."""
    folder = undisturbed.parent / "killed twice"
    folder.mkdir()
    torment(folder, SWEEP, [("rank 1", signal.SIGKILL), ("parent", signal.SIGKILL)], random.Random(0))
    same_in_the_end(undisturbed, folder)
