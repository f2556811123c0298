"""Sweeps on a real SLURM: ``make test-slurm`` starts one of two nodes on this machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import SHORT, SLURM, Command, digits, queue, state_of, states, status
from processes import wait_until
from runs import Outcome, fer

from fer_lightning.evaluation import results

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif("FER_SLURM_INSIDE" not in os.environ, reason="needs a private SLURM: make test-slurm"),
]

# a head that waits, in jobs, for as long as a file is there: so a fault comes in the middle of a run
HELD = """
import os
import time
from pathlib import Path

from fer_lightning.losses.cluster import ClusterHead


class HeldCluster(ClusterHead):
    def forward(self, embeddings, labels=None):
        while self.training and "SLURM_JOB_ID" in os.environ and Path(os.environ["HOLD"]).exists():
            time.sleep(0.05)
        return super().forward(embeddings, labels)
"""


@pytest.fixture(autouse=True)
def empty_queue() -> Iterator[None]:
    """No job outlives its test."""
    yield
    subprocess.run(["scancel", "--me"], check=True)
    wait_until(lambda: not queue(), "an empty queue")


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a loss whose training waits while a file is there."""
    folder = tmp_path_factory.mktemp("held")
    (folder / "held.py").write_text(HELD)
    (folder / "conf/loss").mkdir(parents=True)
    (folder / "conf/loss/held.yaml").write_text("_target_: held.HeldCluster\n")
    return folder


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """The file that lets runs wait while it is there."""
    file = tmp_path / "hold"
    file.touch()
    return file


def sweep(held: Path, base: Path, hold: Path, *words: str) -> Command:
    """Start a sweep of runs that wait."""
    return Command(
        ["train", "-m", "--config-dir", "conf", *SHORT, "loss=held", *words, f"hydra.sweep.dir={base}"],
        held,
        HOLD=str(hold),
    )


def test_jobs_give_the_digits_of_one_machine(tmp_path: Path) -> None:
    words = ["train", "-m", *SHORT, "loss=softmax,cluster", "seed=0,1"]
    done = fer(*words, *SLURM, f"hydra.sweep.dir={tmp_path / 'jobs'}")
    assert done.code == 0, done.out + done.err
    assert "submitted as jobs of SLURM: 4" in done.out
    assert fer(*words, f"hydra.sweep.dir={tmp_path / 'alone'}").code == 0
    assert len(digits(tmp_path / "jobs")) == 4
    assert digits(tmp_path / "jobs") == digits(tmp_path / "alone")
    assert "sacct" not in done.out + done.err
    again = fer(*words, *SLURM, f"hydra.sweep.dir={tmp_path / 'jobs'}")
    assert "nothing is trained" in again.out


def test_two_nodes_give_the_digits_of_two_processes(tmp_path: Path) -> None:
    words = ["train", "-m", *SHORT, "loss=cluster"]
    ranks = ["trainer=slurm", "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.nodes=2"]
    nodes = ["trainer.devices=1", "hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=1"]
    done = fer(*words, *ranks, *nodes, *SLURM, f"hydra.sweep.dir={tmp_path / 'nodes'}")
    assert done.code == 0, done.out + done.err
    assert fer(*words, "trainer=ddp_cpu", f"hydra.sweep.dir={tmp_path / 'one'}").code == 0
    assert [*digits(tmp_path / "nodes").values()] == [*digits(tmp_path / "one").values()] != []


def test_the_command_may_go_and_come_back(held: Path, tmp_path: Path, hold: Path) -> None:
    base = tmp_path / "runs"
    words = ["seed=0,1,2", *SLURM, "hydra.launcher.array_parallelism=2"]
    command = sweep(held, base, hold, *words)
    wait_until(lambda: "2 running, 1 queued" in status(base), "two running jobs and one that waits")
    assert re.search(r"queued +.*job \d+_2 \(JobArrayTaskLimit\)", status(base))
    command.process.send_signal(signal.SIGINT)
    assert command.code() == 130
    assert "still in the queue: 3 of these runs" in command.said()
    assert len(queue()) == 3
    again = sweep(held, base, hold, *words)
    wait_until(lambda: "already jobs of SLURM: 3 of these runs" in again.said(), "the same jobs")
    hold.unlink()
    assert again.code() == 0, again.said()
    assert len(digits(base)) == 3
    assert "3 done" in status(base)


@pytest.mark.faults
@pytest.mark.parametrize("way", ["requeue", "SIGUSR1", "SIGUSR2"])
def test_what_is_put_back_into_the_queue_is_waited_for(held: Path, tmp_path: Path, hold: Path, way: str) -> None:
    base = tmp_path / "runs"
    command = sweep(held, base, hold, "seed=3", *SLURM, "hydra.launcher.max_num_timeout=3")
    log = f"*/{results.LOG}"
    wait_until(lambda: any("stage 1 of 1" in path.read_text() for path in base.glob(log)), "training")
    (number,) = queue()
    act = ["scontrol", "requeue", number] if way == "requeue" else ["scancel", f"--signal={way[3:]}", number]
    subprocess.run(act, check=True)
    wait_until(lambda: "put back into the queue" in command.said(), "a job that is put back")
    wait_until(lambda: states() <= {"PENDING"}, "a job that waits")
    assert re.search(r"queued .*put back into the queue, job \d+ \(", status(base)), status(base)
    assert command.process.poll() is None, "the command waits for it"
    hold.unlink()
    assert command.code() == 0, command.said()
    assert [*queue()] in ([], [number])
    assert len(digits(base)) == 1


def test_cancelled_jobs_are_told_and_not_waited_for(held: Path, tmp_path: Path, hold: Path) -> None:
    base = tmp_path / "runs"
    command = sweep(held, base, hold, "seed=0,1,2", *SLURM, "hydra.launcher.array_parallelism=1")
    wait_until(lambda: "1 running, 2 queued" in status(base), "a running job and two that wait")
    (running,) = (number for number, state in queue().items() if state == "RUNNING")
    waiting = running.replace("_0", "_2")
    subprocess.run(["scancel", waiting], check=True)
    wait_until(lambda: f"job {waiting}: it is not in the queue any more" in command.said(), "what is cancelled")
    cancelled = fer("sweep", "cancel", str(base))
    assert cancelled.code == 0
    assert "cancelled: 2" in cancelled.out
    assert command.code() == 1
    assert command.said().count("not complete") == 3
    assert f"job {running}: it was cancelled" in command.said()
    assert "no job of these runs is in the queue" in fer("sweep", "cancel", str(base)).out
    assert f"job {running}: it was cancelled" in status(base)


def test_a_run_that_fails_is_a_job_that_failed(tmp_path: Path) -> None:
    words = [*SHORT, "loss=softmax", "optimizer=sgd", "optimizer.lr=1e6", "stage.epochs=1", *SLURM]
    done = fer("train", "-m", *words, f"hydra.sweep.dir={tmp_path}")
    assert done.code == 1
    assert "failed: " in done.out + done.err
    number = re.findall(r'"(\d+)"', (tmp_path / ".slurm.json").read_text())[0]
    wait_until(lambda: not queue(), "the end of the job, which the command need not wait for")
    assert state_of(number) == "FAILED"


OWN = """#!/bin/bash
#SBATCH --requeue --signal=B:USR1@60 --open-mode=append --ntasks-per-node=2 --output={log}
trap 'scontrol requeue $SLURM_JOB_ID' USR1
srun {python} -m fer_lightning train --config-dir conf {words} hydra.run.dir={run} &
wait $!
"""
"""A script of one's own as sweeps/README.md has it."""


@pytest.mark.faults
def test_ones_own_script_goes_on_after_its_time_limit(held: Path, tmp_path: Path, hold: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "script.log"
    training = [*SHORT, "loss=held", "trainer=slurm", "trainer.accelerator=cpu", "trainer.precision=32-true"]
    script = OWN.format(log=log, python=sys.executable, words=" ".join([*training, "trainer.devices=2"]), run=run)
    (tmp_path / "script.sh").write_text(script)
    command = ["sbatch", "--parsable", str(tmp_path / "script.sh")]
    environment = {**os.environ, "HOLD": str(hold)}
    told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=held, env=environment)
    number = told.stdout.strip()
    wait_until(lambda: log.exists() and "stage 1 of 1" in log.read_text(), "training")
    subprocess.run(["scancel", "--batch", "--signal=USR1", number], check=True)  # as SLURM does before the limit
    wait_until(lambda: states() == {"PENDING"}, "a job that waits again")
    hold.unlink()
    wait_until(lambda: not queue(), "the end of the job")
    assert state_of(number) == "COMPLETED", log.read_text()
    alone = ["train", "-m", "--config-dir", "conf", *SHORT, "loss=held", "trainer=ddp_cpu"]
    assert fer(*alone, f"hydra.sweep.dir={tmp_path / 'alone'}", folder=held).code == 0
    assert [*digits(run.parent).values()] == [*digits(tmp_path / "alone").values()] != []


def refused(done: Outcome) -> str:
    """Return the one line with which a command refuses."""
    assert done.code == 2, done.out + done.err
    (line,) = done.err.strip().splitlines()
    return line


def test_what_sbatch_refuses_is_told_in_one_line(tmp_path: Path) -> None:
    words = ["train", "-m", *SHORT, "seed=0,1", *SLURM, f"hydra.sweep.dir={tmp_path}"]
    assert "invalid partition" in refused(fer(*words, "hydra.launcher.partition=nowhere"))
    assert not queue()
