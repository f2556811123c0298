"""A sweep of two-rank runs that is killed again and again ends with the table of one that was left alone.

All of it takes minutes: `make test-faults`. A short part of it runs with the other tests.
"""

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from processes import HANGING, is_there, tree, until_gone, wait_until
from runs import SMALL, Outcome, fer, result, scores

from fer_lightning.config.shipped import shipped
from fer_lightning.evaluation import results
from fer_lightning.sweeps import planned_run
from fer_lightning.sweeps.planned_run import State

SWEEP = [
    *("data.rows=803", "data.minival=0.3", "data.batch_size=32", "backbone.people=20", "backbone.pictures=10"),
    *("backbone.epochs=1", "stage.epochs=3", "optimizer.lr=0.003", "class_weights=min_over_count"),
    *("trainer=ddp_cpu", "loss=softmax,cluster,center", "seed=0,1"),
]
SHORT = [*SMALL, "stage=fine_tuning", "stage.epochs=4", "optimizer.lr=0.1", "trainer=ddp_cpu"]
# a head that takes its time where it is told to, so that a kill comes before a run's last epoch
SLOW = """
import os
import time

from fer_lightning.losses.cluster import ClusterHead


class SlowCluster(ClusterHead):
    def forward(self, embeddings, labels=None):
        if self.training:
            time.sleep(float(os.environ.get("SECONDS_A_STEP", "0")))
        return super().forward(embeddings, labels)
"""
VICTIMS = ("parent", "rank 0", "rank 1", "group")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)

Sweep = subprocess.Popen[str]
Fault = tuple[str, signal.Signals]


def own_cache(folder: Path) -> dict[str, str]:
    """Environment in which a folder's first stages are trained anew, from the faces and weights of all."""
    own = folder.parent / f"cache of {folder.name}"
    if not own.exists():
        own.mkdir()
        for kind in ("synthetic", "stores", "weights"):
            common = Path(os.environ["FER_CACHE"], kind)
            common.mkdir(parents=True, exist_ok=True)
            (own / kind).symlink_to(common)
    return {"FER_CACHE": str(own)}


def start(folder: Path, words: list[str], **variables: str) -> Sweep:
    """``fer train -m`` in a process group of its own."""
    command = [sys.executable, "-m", "fer_lightning", "train", "-m", *words, f"hydra.sweep.dir={folder}"]
    environment = {**os.environ, **own_cache(folder), **variables}
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        return subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )


def left_alone(folder: Path, words: list[str]) -> Outcome:
    """The same in this process, to its end."""
    with mock.patch.dict(os.environ, own_cache(folder)):
        return fer("train", "-m", *words, f"hydra.sweep.dir={folder}")


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


def all_ended_by(sign: signal.Signals, sweep: Sweep, there: list[int]) -> None:
    """See that a sweep ends with the code of a signal, and all its processes with it."""
    expected = 128 + sign if sign != signal.SIGKILL else -sign
    assert sweep.wait(HANGING) in (expected, -sign), sign
    until_gone(there, 10 if sign == signal.SIGKILL else HANGING)  # which is promised of SIGKILL


def log_of(folder: Path, loss: str) -> str:
    """What a sweep's run with a loss has said so far."""
    return "".join(path.read_text() for path in folder.glob(f"{loss}-*/{results.LOG}"))


def until_said(sweep: Sweep, folder: Path, loss: str, sign: str) -> None:
    """Wait until a sweep's run with a loss says a word."""
    wait_until(lambda: sweep.poll() is not None or sign in log_of(folder, loss), sign)
    assert sign in log_of(folder, loss), f"it ended before {loss} said {sign!r}"


def digits(folder: Path) -> dict[str, Any]:
    """All numbers of a sweep that training decides, by run."""
    found = {}
    for path in folder.glob("*/result.json"):
        told = result(path.parent)
        stages = [[stage["best_epoch"], stage["minival_macro_recall"]] for stage in told["stages"]]
        found[path.parent.name] = {
            "stages": stages,
            "center_drift": told.get("center_drift"),
            **scores(path.parent),
        }
    return found


def table(folder: Path) -> list[dict[str, str]]:
    """The table that is made of a folder, as numbers with all their digits."""
    shown = fer("table", "show", str(folder), "--out", str(folder / "table"))
    assert shown.code == 0, shown.out + shown.err
    with (folder / "table/table.csv").open() as stream:
        return list(csv.DictReader(stream))


def whole_files(folder: Path) -> dict[str, tuple[int, int]]:
    """The complete runs, and when their results and their last checkpoints were written."""
    return {
        path.parent.name: (path.stat().st_mtime_ns, (path.parent / results.CHECKPOINT).stat().st_mtime_ns)
        for path in folder.glob("*/result.json")
    }


def nothing_lost(folder: Path, complete: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """See that no run has failed and that those that were complete still are as they were; those that are now."""
    assert not [run.label for run in planned_run.read(folder) if run.state() == State.FAILED]
    now = whole_files(folder)
    assert complete.items() <= now.items(), "a complete run was trained again"
    return now


def torment(folder: Path, words: list[str], faults: list[Fault], chance: random.Random) -> None:
    """Kill a sweep once for each fault, start it again where it is gone, until all runs are there."""
    complete: dict[str, tuple[int, int]] = {}
    code: int | None = None
    waiting = list(faults)
    for _ in range(len(faults) + 2):  # a fault ends a sweep once, if at all
        sweep = start(folder, words)
        while waiting and sweep.poll() is None:
            disturb(sweep, folder, 1 + 4 * (len(faults) - len(waiting)) // len(faults), waiting, chance)
        code = sweep.wait(3 * HANGING)
        complete = nothing_lost(folder, complete)
        assert not any(is_there(pid) for pid in tree(sweep.pid))
        if code == 0:
            break
    assert code == 0, f"it is not done after as many starts as faults; {len(waiting)} were still to come"
    assert not waiting, "it was done before all faults had come"


def disturb(sweep: Sweep, folder: Path, begun: int, waiting: list[Fault], chance: random.Random) -> None:
    """Bring about the first fault that waits, if it can be, at some moment after so many runs have begun.

    So are faults spread over the sweep, from its first run to its fourth.
    """
    wait_until(
        lambda: sweep.poll() is not None or len([*folder.glob("*/log.txt")]) >= begun,
        "a run that begins",
        3 * HANGING,
    )
    time.sleep(chance.uniform(0, 2.5))
    there = tree(sweep.pid)
    if sweep.poll() is not None or not kill(sweep, *waiting[0]):
        return
    victim, sign = waiting.pop(0)
    print(f"{time.strftime('%X')} {sign.name} to {victim}, {begun} runs begun", flush=True)
    if victim in ("parent", "group"):
        all_ended_by(sign, sweep, there)
    for path in folder.glob("*/result.json"):
        json.loads(path.read_text())  # whole


def same_in_the_end(undisturbed: Path, folder: Path, runs: int) -> None:
    assert len(digits(folder)) == runs
    assert digits(folder) == digits(undisturbed)
    assert table(folder) == table(undisturbed)
    assert {run.state() for run in planned_run.read(folder)} == {State.DONE}
    left = {path.name for path in folder.glob("*-*/*")} | {path.name for path in folder.glob("*-*/.*")}
    kept = {"result.json", "predictions.parquet", "embeddings.npz", "embedding2d.npz", "best.ckpt", "logs"}
    assert left <= {*kept, "log.txt", ".lock"}


@pytest.mark.faults
def test_killed_at_twelve_random_moments(tmp_path: Path) -> None:
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "killed"
    done = left_alone(undisturbed, SWEEP)
    assert done.code == 0, done.out + done.err
    seed = random.randrange(1000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    faults = [(victim, sign) for victim in VICTIMS for sign in SIGNALS]
    chance.shuffle(faults)
    torment(folder, SWEEP, faults, chance)
    same_in_the_end(undisturbed, folder, runs=6)


def test_a_sweep_that_is_killed_takes_its_run_along_and_goes_on_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which the folder of the user's own code is added
    (tmp_path / "conf/loss").mkdir(parents=True)
    (tmp_path / "slow.py").write_text(SLOW)
    text = (shipped("conf") / "loss/cluster.yaml").read_text()
    own = re.sub(r"^_target_: .*", "_target_: slow.SlowCluster", text, flags=re.MULTILINE)
    (tmp_path / "conf/loss/slow_cluster.yaml").write_text(own)
    words = ["--config-dir", str(tmp_path / "conf"), *SHORT, "loss=slow_cluster"]
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "killed"
    done = left_alone(undisturbed, words)
    assert done.code == 0, done.out + done.err

    sweep = start(folder, words, SECONDS_A_STEP="0.1")
    until_said(sweep, folder, "slow_cluster", "fine_tuning: epoch 2 of")
    there = tree(sweep.pid)
    assert len(there) > 3, "the server of runs, a run and its two ranks"
    assert kill(sweep, "parent", signal.SIGKILL)
    all_ended_by(signal.SIGKILL, sweep, there)
    assert not nothing_lost(folder, {}), "a run outlived the sweep"

    done = left_alone(folder, words)
    assert done.code == 0, done.out + done.err
    assert log_of(folder, "slow_cluster").count("continues from") == 1
    same_in_the_end(undisturbed, folder, runs=1)
