"""Any number of ranks trains what one process trains, whoever starts them; and none waits for ever."""

import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import tree, until_gone

from fer_lightning.core.processes import GRACE
from fer_lightning.evaluation import results
from fer_lightning.run import claim, launch

RUN = [
    *("data.rows=803", "data.minival=0.3", "data.batch_size=32", "backbone.people=20", "backbone.pictures=10"),
    *("backbone.epochs=1", "stage.epochs=3", "optimizer.lr=0.003", "stage.fine_tuning.batch_norm=never"),
    *("loss=cluster", "class_weights=min_over_count", "sampler=progressive", "trainer.precision=64-true"),
]


def forked(words: list[str], directory: Path) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    return launch.fork(["--directory", str(directory), *words], directory / results.LOG).wait(240)


def weights(directory: Path) -> dict[str, torch.Tensor]:
    state = torch.load(directory / results.CHECKPOINT, weights_only=True)["state_dict"]
    return {name: value.double() for name, value in state.items()}


def apart(one: Path, other: Path) -> float:
    """Largest difference between the weights that two runs have kept."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


def logged(directory: Path) -> list[tuple[float, ...]]:
    """What the epochs of both stages scored on the minival: macro recall, accuracy, loss."""
    found = []
    for path in sorted((directory / "logs").rglob("metrics.csv")):
        with path.open() as stream:
            lines = [line for line in csv.DictReader(stream) if line["minival/macro_recall"]]
        found += [
            tuple(float(line[f"minival/{key}"]) for key in ("macro_recall", "accuracy", "loss")) for line in lines
        ]
    return found


def scores(directory: Path) -> dict[str, Any]:
    told = json.loads((directory / results.RESULT).read_text())
    return {key: told[key] for key in ("metrics", "confusion", "per_class_recall", "posthoc")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ranks") / "alone"
    assert forked(RUN, directory) == 0
    return directory


@pytest.fixture(scope="module")
def two(alone: Path) -> Path:
    directory = alone.parent / "two"
    assert forked([*RUN, "trainer=ddp_cpu"], directory) == 0
    return directory


@pytest.fixture(scope="module")
def four(alone: Path) -> Path:
    directory = alone.parent / "four"
    assert forked([*RUN, "trainer=ddp_cpu", "trainer.devices=4"], directory) == 0
    return directory


@pytest.mark.parametrize("ranks", ["two", "four"])
def test_ranks_follow_the_path_of_one_process(alone: Path, ranks: str, request: pytest.FixtureRequest) -> None:
    directory = request.getfixturevalue(ranks)
    assert apart(alone, directory) < 1e-8
    assert len(logged(alone)) == 6
    assert len({epoch[0] for epoch in logged(alone)}) > 1, "scores that never move show nothing"
    for mine, theirs in zip(logged(alone), logged(directory), strict=True):
        assert mine[:2] == theirs[:2]
        assert mine[2] == pytest.approx(theirs[2], rel=1e-6)  # a float32 mean


def test_the_same_checkpoint_is_tested_exactly_the_same(alone: Path, two: Path) -> None:
    directory = two.parent / "tested for two ranks"
    options = [f"hydra.run.dir={directory}", "trainer=ddp_cpu", "trainer.precision=64-true"]
    fer = [sys.executable, "-m", "fer_lightning", "evaluate", str(alone / results.CHECKPOINT), *options]
    subprocess.run(fer, check=True, capture_output=True)
    assert scores(directory) == scores(alone)


def port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def run_both(commands: list[list[str]], environments: list[dict[str, str]]) -> None:
    """Start two processes side by side, and see both end well."""
    both = [
        subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command, environment in zip(commands, environments, strict=True)
    ]
    for process in both:
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said


def test_two_torchrun_agents_as_two_nodes_train_what_one_node_trains(two: Path) -> None:
    directory = two.parent / "torchrun"
    meeting = ["--master-addr", "127.0.0.1", "--master-port", port()]
    setup = ["-m", "fer_lightning.run", "--directory", str(directory), *RUN]
    words = [*setup, "trainer=ddp_cpu", "trainer.devices=1", "trainer.nodes=2"]
    agents = [
        [
            "torch.distributed.run",
            "--nnodes",
            "2",
            "--nproc-per-node",
            "1",
            "--node-rank",
            str(node),
            *meeting,
            *words,
        ]
        for node in (0, 1)
    ]
    run_both(agents, [{}, {}])
    assert apart(two, directory) == 0
    assert logged(two) == logged(directory)
    assert scores(two) == scores(directory)


def test_two_tasks_of_a_slurm_job_train_what_one_node_trains(two: Path) -> None:
    """SLURM by its variables alone: what srun would set for two tasks of one node."""
    directory = two.parent / "slurm"
    job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODELIST": "127.0.0.1"}
    job |= {"SLURM_NODEID": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port()}
    words = ["fer_lightning.run", "--directory", str(directory), *RUN, "trainer=slurm", "trainer.accelerator=cpu"]
    tasks = [{**job, "SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in ("0", "1")]
    run_both([[*words, "trainer.precision=64-true"]] * 2, tasks)
    assert apart(two, directory) == 0
    assert scores(two) == scores(directory)


def test_slurm_without_srun_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert forked([*RUN, "trainer=slurm", "trainer.accelerator=cpu"], tmp_path) == 2
    said = (tmp_path / results.LOG).read_text()
    assert said.startswith("fer: trainer=slurm: SLURM_PROCID is not set; start it in a SLURM job: srun")
    assert len(said.splitlines()) == 1


def test_several_nodes_need_somebody_who_starts_them(tmp_path: Path) -> None:
    assert forked([*RUN, "trainer=ddp_cpu", "trainer.nodes=2"], tmp_path) == 2
    assert "trainer.nodes=2: start the ranks with torchrun or srun" in (tmp_path / results.LOG).read_text()


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[launch.Child, Path]]:
    """Starts a run of two ranks that would train for long, and returns when it is in the middle of it."""

    def begin() -> tuple[launch.Child, Path]:
        directory = tmp_path_factory.mktemp("long")
        words = ["--directory", str(directory), *RUN, "trainer=ddp_cpu", "stage.epochs=200", "trainer.timeout=4"]
        process = launch.child([*words, "stage=fine_tuning"])
        deadline = time.monotonic() + 120
        while not (directory / "last.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(random.uniform(0, 1))
        return process, directory

    return begin


def test_a_hung_rank_ends_the_run_in_the_time_that_was_set(
    training: Callable[[], tuple[launch.Child, Path]],
) -> None:
    process, directory = training()
    second = tree(process.pid)[1]  # type: ignore[attr-defined]
    os.kill(second, signal.SIGSTOP)
    begin = time.monotonic()
    assert process.wait(60) == 1
    assert time.monotonic() - begin < 4 + 3 * GRACE
    until_gone([second])
    assert "had no answer from the others for trainer.timeout=4 s" in (claim.read_failure(directory) or "")


@pytest.mark.parametrize(("rank", "sign"), [(0, signal.SIGTERM), (1, signal.SIGTERM), (0, signal.SIGINT)])
def test_a_rank_that_is_asked_to_end_does_so_at_once_and_the_others_with_it(
    training: Callable[[], tuple[launch.Child, Path]], rank: int, sign: signal.Signals
) -> None:
    process, directory = training()
    ranks = tree(process.pid)  # type: ignore[attr-defined]
    os.kill(ranks[rank], sign)
    begin = time.monotonic()
    assert process.wait(60) == 74
    assert time.monotonic() - begin < 3 * GRACE
    until_gone(ranks)
    assert claim.read_failure(directory) is None
