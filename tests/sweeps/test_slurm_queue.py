"""What is read from SLURM's commands, whose output was recorded; ``make test-slurm`` asks a real SLURM."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from runs import SMALL, fer

from fer_lightning.sweeps import planned_run, slurm_queue
from fer_lightning.sweeps.planned_run import PlannedRun
from fer_lightning.sweeps.slurm_queue import Job, NoAnswerError

SQUEUE = """\
12_0|RUNNING|None
12_1|PENDING|JobArrayTaskLimit
12_2|CANCELLED|None
12_3|TIMEOUT|TimeLimit
13|PENDING|BeginTime
14|COMPLETING|None
15|NODE_FAIL|NodeDown
16|FAILED|NonZeroExitCode
"""
"""As SLURM 22.05 prints it."""

SACCT = """\
9_0|COMPLETED
9_1|OUT_OF_MEMORY
9_2|CANCELLED by 1000
9_[3-7]|PENDING
"""


def command(folder: Path, name: str, output: str = "", code: int = 0, error: str = "") -> None:
    """Put a command into a folder that prints what was recorded, and writes its words to a file."""
    (folder / f"{name}.out").write_text(output)
    (folder / f"{name}.err").write_text(error)
    script = folder / name
    script.write_text(
        f'#!/bin/sh\necho "$@" >> "{folder}/{name}.words"\ncat "{folder}/{name}.out"\n'
        f'cat "{folder}/{name}.err" >&2\nexit {code}\n'
    )
    script.chmod(0o755)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the commands of a cluster, before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command(folder, "squeue", SQUEUE)
    command(folder, "sacct", SACCT)
    command(folder, "scancel")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("12_0", "job 12_0"),
        ("12_1", "job 12_1 (JobArrayTaskLimit)"),
        ("12_2", "job 12_2: it was cancelled"),
        ("12_3", "job 12_3: it reached its time limit"),
        ("13", "job 13 (BeginTime)"),
        ("14", "job 14"),
        ("15", "job 15: its node failed"),
        ("16", "job 16: it ended with an error"),
        ("9_0", "job 9_0: it has ended"),
        ("9_1", "job 9_1: it ran out of memory"),
        ("9_2", "job 9_2: it was cancelled"),
        ("8", "job 8: it is not in the queue any more; perhaps it was cancelled while it waited"),
    ],
)
def test_a_jobs_state_in_words(cluster: Path, number: str, words: str) -> None:
    assert str(slurm_queue.jobs([number])[number]) == words


def test_what_waits_runs_or_is_over(cluster: Path) -> None:
    told = slurm_queue.jobs(["12_0", "12_1", "12_2", "13", "14", "8"])
    assert [number for number, job in told.items() if job.runs] == ["12_0", "14"]
    assert [number for number, job in told.items() if job.waits] == ["12_1", "13"]
    assert [number for number, job in told.items() if job.is_over] == ["12_2", "8"]


def test_without_accounting_nothing_is_printed(cluster: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command(cluster, "sacct", code=1, error="Slurm accounting storage is disabled\n")
    assert slurm_queue.jobs(["12_0", "9_0"]) == {"12_0": Job("12_0", "RUNNING", "None"), "9_0": Job("9_0")}
    assert capfd.readouterr() == ("", "")


def test_no_answer_is_one_line(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    command(cluster, "squeue", code=1, error=f"{refusal}\n")
    with pytest.raises(NoAnswerError, match=r"^squeue: slurm_load_jobs error: Unable to contact"):
        slurm_queue.jobs(["1"])
    monkeypatch.setenv("PATH", str(cluster / "nowhere"))
    with pytest.raises(NoAnswerError, match=r"^squeue: not on this machine$"):
        slurm_queue.jobs(["1"])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The folder of a sweep of which each run was submitted, and one is complete."""
    folder = tmp_path / "runs"
    folder.mkdir()
    numbers = {"a": "12_0", "b": "12_1", "c": "12_2", "d": "13", "e": "12_3", "f": "9_1"}
    planned_run.write([PlannedRun((), folder / name, f"run {name}") for name in numbers], folder)
    for name in "def":
        (folder / name).mkdir()
        (folder / name / "log.txt").write_text("epoch 1 of 3\n")
    (folder / ".slurm.json").write_text(
        json.dumps({name: Job(number, "RUNNING") for name, number in numbers.items()})
    )
    return folder


def test_status_tells_what_becomes_of_each_job(cluster: Path, base: Path) -> None:
    told = fer("sweep", "status", str(base))
    assert told.code == 0
    assert told.out.splitlines() == [
        "missing  run c: job 12_2: it was cancelled",
        "stopped  run e: job 12_3: it reached its time limit; epoch 1 of 3",
        "stopped  run f: job 9_1: it ran out of memory; epoch 1 of 3",
        "queued   run b: job 12_1 (JobArrayTaskLimit)",
        "queued   run d: put back into the queue, job 13 (BeginTime)",
        "running  run a: job 12_0",
        "6 runs: 1 running, 2 queued, 2 stopped, 1 missing",
    ]


def test_how_a_job_ended_is_known_after_slurm_has_forgotten_it(cluster: Path, base: Path) -> None:
    fer("sweep", "status", str(base))
    command(cluster, "squeue")
    command(cluster, "sacct", code=1)
    told = fer("sweep", "status", str(base)).out
    assert "run e: job 12_3: it reached its time limit" in told
    assert "run a: job 12_0: it is not in the queue any more" in told


def test_without_an_answer_the_files_alone_are_told(cluster: Path, base: Path) -> None:
    command(cluster, "squeue", code=1, error="slurm_load_jobs error: Unable to contact slurm controller\n")
    told = fer("sweep", "status", str(base))
    assert told.code == 0
    assert "squeue: slurm_load_jobs error" in told.out
    assert "6 runs: 3 stopped, 3 missing" in told.out
    refused = fer("sweep", "cancel", str(base))
    assert refused.code == 2
    assert "fer sweep cancel: squeue" in refused.err


def test_cancel_ends_what_waits_or_runs_and_nothing_else(cluster: Path, base: Path) -> None:
    (base / "trials").mkdir()
    (base / "trials/.slurm.json").write_text(json.dumps({"t": Job("14"), "u": Job("15")}))
    cancelled = fer("sweep", "cancel", str(base))
    assert cancelled.code == 0
    assert "cancelled: 4" in cancelled.out
    assert {*(cluster / "scancel.words").read_text().split()} == {"12_0", "12_1", "13", "14"}


def test_where_there_is_no_slurm_nothing_is_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    words = [*SMALL, "loss=softmax", "hydra/launcher=submitit_slurm", f"hydra.sweep.dir={tmp_path / 'runs'}"]
    refused = fer("train", "-m", *words)
    assert refused.code == 2
    assert refused.err == "fer: hydra/launcher=submitit_slurm: squeue: not on this machine\n"
