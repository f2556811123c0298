"""A sweep on SLURM that is disturbed again and again ends with the digits of one that was left alone.

It takes minutes: ``make test-slurm-faults``.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from jobs import SHORT, SLURM, Command, digits, queue
from processes import HANGING, tree, wait_until
from runs import fer

from fer_lightning.config.shipped import shipped
from fer_lightning.evaluation import results
from fer_lightning.sweeps import planned_run
from fer_lightning.sweeps.planned_run import State

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.faults,
    pytest.mark.skipif(
        "FER_SLURM_INSIDE" not in os.environ, reason="needs a private SLURM: make test-slurm-faults"
    ),
]

SLOW = """
import os
import time
from pathlib import Path

from fer_lightning.losses.cluster import ClusterHead

ALLOWED = Path(__file__).with_name("allowed")


def held():
    if not ALLOWED.exists():
        return False
    complete = [*ALLOWED.parent.glob("runs/*/result.json")]
    return len(complete) >= int(ALLOWED.read_text() or 0)


class SlowCluster(ClusterHead):
    def forward(self, embeddings, labels=None):
        if self.training and "SLURM_JOB_ID" in os.environ:
            time.sleep(0.3)
            while held():
                time.sleep(0.1)
        return super().forward(embeddings, labels)
"""


def running() -> list[str]:
    """Return the numbers of the jobs that run."""
    return [number for number, state in queue().items() if state == "RUNNING"]


def shell(*words: str) -> None:
    """Run a command of SLURM, which may come too late for its job, and then tries again for a minute."""
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(words, check=False, capture_output=True, timeout=5)


def requeue(job: str, command: Command) -> None:
    shell("scontrol", "requeue", job)


def cancel(job: str, command: Command) -> None:
    shell("scancel", job)


def near_its_limit(job: str, command: Command) -> None:
    shell("scancel", "--signal=USR2", job)


def lose_a_node(job: str, command: Command) -> None:
    subprocess.run(["pkill", "-KILL", "-f", "^slurmd -N node1"], check=True)
    time.sleep(15)  # beyond SlurmdTimeout
    subprocess.run(["slurmd", "-N", "node1"], check=True)


def drain(job: str, command: Command) -> None:
    shell("scontrol", "update", "NodeName=node2", "State=DRAIN", "Reason=test")
    time.sleep(3)
    shell("scontrol", "update", "NodeName=node2", "State=RESUME")


def end_the_command(job: str, command: Command) -> None:
    command.process.send_signal(signal.SIGINT)


def kill_the_command(job: str, command: Command) -> None:
    command.process.kill()


FAULTS: list[Callable[[str, Command], None]] = [
    *(requeue, cancel, near_its_limit, lose_a_node, drain, end_the_command),
    *(requeue, cancel, near_its_limit, lose_a_node, kill_the_command, kill_the_command),
]


def written(folder: Path) -> dict[str, int]:
    """Return when the result of each complete run was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob(f"*/{results.RESULT}")}


def trainings() -> list[str]:
    """Return the processes that train, but for those of the tests' own process."""
    told = subprocess.run(["ps", "-eo", "pid,args"], check=True, capture_output=True, text=True).stdout
    found = re.findall(r"^ *(\d+) (.*(?:submitit|multiprocessing.forkserver).*)$", told, flags=re.MULTILINE)
    own = tree(os.getpid())
    return [args for pid, args in found if int(pid) not in own]


def slow_loss(folder: Path) -> None:
    """Put a loss into a folder that takes its time in jobs, and waits where enough runs are complete."""
    (folder / "conf/loss").mkdir(parents=True)
    (folder / "slow.py").write_text(SLOW)
    text = (shipped("conf") / "loss/cluster.yaml").read_text()
    own = re.sub(r"^_target_: .*", "_target_: slow.SlowCluster", text, flags=re.MULTILINE)
    (folder / "conf/loss/slow.yaml").write_text(own)


def stops(folder: Path, *words: str) -> Command:
    """Start a sweep of one long run whose job is not put back into the queue."""
    slow_loss(folder)
    training = ["train", "-m", "--config-dir", "conf", *SHORT, "loss=slow", "stage.epochs=2000", *SLURM, *words]
    return Command([*training, f"hydra.sweep.dir={folder / 'runs'}"], folder)


def test_a_time_limit_is_called_so(tmp_path: Path) -> None:
    command = stops(tmp_path, "hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=20")
    assert command.process.wait(HANGING) == 1
    assert "reached its time limit" in command.said().splitlines()[-1]
    status = fer("sweep", "status", str(tmp_path / "runs"))
    assert "stopped" in status.out
    assert "reached its time limit" in status.out


def test_a_node_that_fails_is_called_so(tmp_path: Path) -> None:
    command = stops(tmp_path, "+hydra.launcher.additional_parameters.no-requeue=true")
    log = f"runs/*/{results.LOG}"
    wait_until(lambda: any("epoch 1 of" in path.read_text() for path in tmp_path.glob(log)), "training")
    (number,) = running()
    told = subprocess.run(["squeue", "--noheader", "--format=%N"], check=True, capture_output=True, text=True)
    node = told.stdout.strip()
    subprocess.run(["pkill", "-KILL", "-f", f"^slurmd -N {node}|^slurmstepd|submitit.core._submit"], check=True)
    assert command.process.wait(HANGING) == 1
    subprocess.run(["slurmd", "-N", node], check=True)
    assert f"job {number}: its node failed" in command.said()
    assert f"job {number}: its node failed" in fer("sweep", "status", str(tmp_path / "runs")).out


def test_twelve_random_faults(tmp_path: Path) -> None:
    slow_loss(tmp_path)
    sweep = ["train", "-m", "--config-dir", "conf", *SHORT, "loss=slow", "loss.weight=0.1,1", "seed=0,1,2,3"]
    jobs = [*SLURM, "hydra.launcher.max_num_timeout=10", "hydra.launcher.array_parallelism=3"]
    base = tmp_path / "runs"
    words = [*sweep, *jobs, f"hydra.sweep.dir={base}"]
    seed = random.randrange(1000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    faults = chance.sample(FAULTS, len(FAULTS))
    allowed = tmp_path / "allowed"  # with the three runs that may be in their last step, fewer than all eight
    allowed.write_text("0")

    command, complete = Command(words, tmp_path), {}
    while faults:
        wait_until(lambda now=command: bool(running()) or now.process.poll() is not None, "a job that runs")
        if command.process.poll() is not None:
            assert len(written(base)) < 8, f"complete before {len(faults)} of the faults"
            command = Command(words, tmp_path)
            continue
        time.sleep(chance.uniform(0, 4))
        if jobs_now := running():
            fault = faults.pop()
            print(f"{time.strftime('%X')} {fault.__name__}, {len(written(base))} complete", flush=True)
            fault(chance.choice(jobs_now), command)
            allowed.write_text(str(4 * (len(FAULTS) - len(faults)) // len(FAULTS)))
        assert complete.items() <= written(base).items(), "a complete run was trained again"
        complete = written(base)
    allowed.write_text("8")
    for _ in range(4):  # a job that was cancelled is submitted by the next command
        if command.process.wait(HANGING) == 0:
            break
        command = Command(words, tmp_path)
    assert command.process.wait(HANGING) == 0, command.said()
    assert complete.items() <= written(base).items(), "a complete run was trained again"
    assert {run.state() for run in planned_run.read(base)} == {State.DONE}
    wait_until(lambda: not queue() and not trainings(), "the end of all jobs")

    alone = tmp_path / "alone"
    done = fer(*sweep, f"hydra.sweep.dir={alone}", folder=tmp_path)
    assert done.code == 0, done.out + done.err
    assert len(digits(alone)) == 8
    assert digits(base) == digits(alone)
