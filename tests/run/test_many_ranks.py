"""Any number of ranks trains what one process trains, whoever starts them; and none waits for ever."""

import csv
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import HANGING, tree, until_gone
from runs import SMALL, Started, fer, scores, weights

from fer_lightning.evaluation import results
from fer_lightning.run import claim
from fer_lightning.run.__main__ import main as run_main

EPOCHS = 2
RUN = [
    *(*SMALL, "data.minival=0.3", f"stage.epochs={EPOCHS}", "optimizer.lr=0.01"),
    *("stage.fine_tuning.batch_norm=never", "loss=cluster", "class_weights=min_over_count"),
    *("sampler=progressive", "trainer.precision=64-true"),
]


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


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ranks") / "alone"
    Started(RUN, directory).rest()
    return directory


@pytest.fixture(scope="module")
def two(alone: Path) -> Path:
    directory = alone.parent / "two"
    Started([*RUN, "trainer=ddp_cpu"], directory).rest()
    return directory


@pytest.fixture(scope="module")
def four(alone: Path) -> Path:
    directory = alone.parent / "four"
    Started([*RUN, "trainer=ddp_cpu", "trainer.devices=4"], directory).rest()
    return directory


@pytest.mark.parametrize("ranks", ["two", "four"])
def test_ranks_follow_the_path_of_one_process(alone: Path, ranks: str, request: pytest.FixtureRequest) -> None:
    directory = request.getfixturevalue(ranks)
    assert apart(alone, directory) < 1e-8
    assert len(logged(alone)) == 2 * EPOCHS
    assert len({epoch[0] for epoch in logged(alone)}) > 1, "scores that never move show nothing"
    for mine, theirs in zip(logged(alone), logged(directory), strict=True):
        assert mine[:2] == theirs[:2]
        assert mine[2] == pytest.approx(theirs[2], rel=1e-6)  # a float32 mean


def test_the_same_checkpoint_is_tested_exactly_the_same(alone: Path, two: Path) -> None:
    directory = two.parent / "tested for two ranks"
    options = [f"hydra.run.dir={directory}", "trainer=ddp_cpu", "trainer.precision=64-true"]
    done = fer("evaluate", str(alone / results.CHECKPOINT), *options)
    assert done.code == 0, done
    assert scores(directory) == scores(alone)


def port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.faults
def test_two_torchrun_agents_as_two_nodes_train_what_one_node_trains(two: Path) -> None:
    directory = two.parent / "torchrun"
    meeting = ["--master-addr", "127.0.0.1", "--master-port", port()]
    setup = ["-m", "fer_lightning.run", "--directory", str(directory), *RUN]
    words = [*setup, "trainer=ddp_cpu", "trainer.devices=1", "trainer.nodes=2"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", *meeting]
    agents = [
        subprocess.Popen(
            [*torchrun, "--node-rank", str(node), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for node in (0, 1)
    ]
    for agent in agents:
        said, _ = agent.communicate(timeout=HANGING)
        assert agent.returncode == 0, said
    assert apart(two, directory) == 0
    assert logged(two) == logged(directory)
    assert scores(two) == scores(directory)


def of_torchrun(rank: str) -> dict[str, str]:
    """What torchrun sets for one of two nodes with a rank each."""
    node = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    return {**node, "RANK": rank, "GROUP_RANK": rank}


def of_slurm(rank: str) -> dict[str, str]:
    """What srun sets for one of two tasks of a node."""
    job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODELIST": "127.0.0.1"}
    return {**job, "SLURM_NODEID": "0", "SLURM_PROCID": rank, "SLURM_LOCALID": rank}


@pytest.mark.parametrize(
    ("variables", "trainer"),
    [
        (of_torchrun, ["trainer=ddp_cpu", "trainer.devices=1", "trainer.nodes=2"]),
        (of_slurm, ["trainer=slurm", "trainer.accelerator=cpu"]),
    ],
)
def test_ranks_that_others_start_train_what_one_node_trains(
    two: Path, variables: Callable[[str], dict[str, str]], trainer: list[str]
) -> None:
    directory = two.parent / variables.__name__
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port()}
    words = [*RUN, *trainer, "trainer.precision=64-true"]
    tasks = [Started(words, directory, **meeting, **variables(rank)) for rank in ("0", "1")]
    for task in tasks:
        task.rest()
    assert apart(two, directory) == 0
    assert scores(two) == scores(directory)


def test_a_node_without_the_weights_is_told_on_every_rank(tmp_path: Path) -> None:
    words = [*RUN, "trainer=slurm", "trainer.accelerator=cpu"]
    weights = ([], ["backbone.weights=/unmounted/weights.safetensors"])  # on node 0 and on node 1
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port()}
    tasks = [
        Started([*words, *weights[rank]], tmp_path / "run", **meeting, **of_slurm(str(rank))) for rank in (0, 1)
    ]
    assert [task.process.wait(HANGING) for task in tasks] == [2, 2]
    for task in tasks:
        *_, line = task.said().splitlines()
        assert line.startswith(f"fer: rank 1 on {platform.node()}: ")
        assert "/unmounted/weights.safetensors" in line
    assert "/unmounted/weights.safetensors" in str(claim.read_failure(tmp_path / "run"))


def test_slurm_without_srun_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*RUN, "trainer=slurm", "trainer.accelerator=cpu"]
    assert run_main(["--directory", str(tmp_path), *words]) == 2
    said, err = capsys.readouterr()
    assert err.startswith("fer: trainer=slurm: SLURM_PROCID is not set; start it in a SLURM job: srun")
    assert len(err.splitlines()) == 1
    assert not said


def test_several_nodes_need_somebody_who_starts_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*RUN, "trainer=ddp_cpu", "trainer.nodes=2"]
    assert run_main(["--directory", str(tmp_path), *words]) == 2
    assert "trainer.nodes=2: start the ranks with torchrun or srun" in capsys.readouterr().err


def in_the_middle(directory: Path, *words: str) -> Started:
    """A run of two ranks that would train for long, in the middle of it."""
    run = Started([*RUN, "trainer=ddp_cpu", "stage=fine_tuning", "stage.epochs=1000", *words], directory)
    run.until("epoch 1 of 1000")
    time.sleep(random.uniform(0, 0.3))
    return run


def test_a_hung_rank_ends_the_run_in_the_time_that_was_set(tmp_path: Path) -> None:
    run = in_the_middle(tmp_path / "run", "trainer.timeout=4")
    second = tree(run.pid)[1]
    os.kill(second, signal.SIGSTOP)
    assert run.process.wait(HANGING) == 1
    until_gone([second])
    said = claim.read_failure(tmp_path / "run")
    assert "had no answer from the others for trainer.timeout=4 s" in (said or "")


@pytest.mark.parametrize(("rank", "sign"), [(0, signal.SIGTERM), (1, signal.SIGTERM), (0, signal.SIGINT)])
def test_a_rank_that_is_asked_to_end_does_so_at_once_and_the_others_with_it(
    tmp_path: Path, rank: int, sign: signal.Signals
) -> None:
    run = in_the_middle(tmp_path / "run", "trainer.timeout=60000")
    ranks = tree(run.pid)
    os.kill(ranks[rank], sign)
    assert run.process.wait(HANGING) == 74  # long before a rank that waits for another gives up
    until_gone(ranks)
    assert claim.read_failure(tmp_path / "run") is None
