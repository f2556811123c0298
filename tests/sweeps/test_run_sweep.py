"""Sweeps through Hydra's launchers: each gives the same table, failures stay alone, no run is trained twice."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.run import claim

SMALL = [
    *("data.rows=803", "data.minival=0.3", "data.batch_size=32", "backbone.people=20", "backbone.pictures=10"),
    *("backbone.epochs=1", "stage=feature_extraction", "stage.epochs=2", "optimizer.lr=0.003"),
]
GRID = ["loss=softmax,cluster", "seed=0,1"]

# a head that raises on one rank, in the middle of training
FAILING = """
import os

from fer_lightning.losses.softmax import SoftmaxHead


class FailingHead(SoftmaxHead):
    def __init__(self, feature_dim, class_stats, *, rank: int):
        super().__init__(feature_dim, class_stats, label_smoothing=0.1)
        self.rank = rank
        self.steps = 0

    def forward(self, embeddings, labels=None):
        self.steps += self.training
        if self.steps > 20 and int(os.environ.get("RANK", "0")) == self.rank:
            raise ArithmeticError(f"rank {self.rank} had enough")
        return super().forward(embeddings, labels)
"""


def fer(*words: str, folder: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fer_lightning", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def sweep(folder: Path, *words: str) -> tuple[int, str]:
    process = fer("train", "-m", *SMALL, *words, f"hydra.sweep.dir={folder}")
    said, _ = process.communicate(timeout=400)
    return process.returncode, said


def numbers(folder: Path) -> dict[str, Any]:
    """Everything in the results but where and when they were made."""
    found = {}
    for path in folder.glob("*/result.json"):
        told = json.loads(path.read_text())
        found[path.parent.name] = {key: told[key] for key in ("metrics", "confusion", "posthoc", "protocol")}
    return found


def trained(folder: Path) -> list[int]:
    """How often each run was trained from its first epoch on."""
    logs = [path.read_text() for path in folder.glob("*/log.txt")]
    return [len(re.findall(r"epoch 1 of 2", log)) for log in logs]


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "basic"
    code, said = sweep(folder, *GRID)
    assert code == 0, said
    assert "0 of 4 runs are complete, 4 to do" in said
    assert re.search(
        r"\[4 of 4\] loss=cluster seed=1: macro recall \d+\.\d, minival \d+\.\d, in .* s; best by", said
    )
    return folder


def test_one_at_a_time_each_in_a_process_of_its_own_that_shares_the_imports(basic: Path) -> None:
    assert len(numbers(basic)) == 4
    assert trained(basic) == [1] * 4


@pytest.mark.parametrize("launcher", ["joblib hydra.launcher.n_jobs=2", "submitit_local"])
def test_other_launchers_give_the_same_table(basic: Path, launcher: str) -> None:
    folder = basic.parent / launcher.split()[0]
    code, said = sweep(folder, *GRID, *f"hydra/launcher={launcher}".split())
    assert code == 0, said
    assert "[4 of 4]" in said
    assert numbers(folder) == numbers(basic)


def test_a_child_that_imports_everything_itself_gives_the_same_digits(basic: Path) -> None:
    (folder,) = basic.glob("cluster-none-feature_extraction-s1-*")
    alone = basic.parent / "alone"
    process = fer("train", *SMALL, "loss=cluster", "seed=1", f"hydra.run.dir={alone / folder.name}")
    assert process.wait(200) == 0
    assert numbers(alone)[folder.name] == numbers(basic)[folder.name]


def test_what_is_complete_is_left_alone_and_what_is_new_is_added(basic: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in basic.glob("*/result.json")}
    code, said = sweep(basic, *GRID)
    assert code == 0
    assert "all 4 runs are complete, nothing is trained" in said
    code, said = sweep(basic, "loss=softmax", "seed=0,2")
    assert code == 0
    assert "1 of 2 runs are complete, 1 to do" in said
    assert before.items() <= {path: path.stat().st_mtime_ns for path in basic.glob("*/result.json")}.items()
    status, _ = fer("sweep", "status", str(basic)).communicate()
    assert "5 runs: 5 done" in status


def test_two_sweeps_of_one_moment_train_each_run_once(basic: Path) -> None:
    folder = basic.parent / "together"
    words = ["train", "-m", *SMALL, *GRID, f"hydra.sweep.dir={folder}"]
    both = [fer(*words), fer(*words)]
    for process in both:
        said, _ = process.communicate(timeout=400)
        assert process.returncode == 0, said
    assert len(numbers(folder)) == 4
    assert numbers(folder).items() <= numbers(basic).items()
    assert trained(folder) == [1] * 4


def test_a_run_that_fails_is_named_and_the_others_are_right(basic: Path) -> None:
    folder = basic.parent / "a bad value"
    code, said = sweep(folder, "loss=softmax", "seed=0,1", "loss.label_smoothing=0.0,2.0")
    assert code == 1
    assert re.search(r"failed: seed=0 loss.label_smoothing=2.0: loss: label_smoothing must be", said)
    assert numbers(folder) == {
        name: told for name, told in numbers(basic).items() if "softmax" in name and "s2" not in name
    }
    status = fer("sweep", "status", str(folder))
    assert "4 runs: 2 failed, 2 done" in status.communicate()[0]
    assert status.returncode == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_an_exception_on_one_rank_alone_fails_that_run_alone(tmp_path: Path, rank: int) -> None:
    (tmp_path / "conf/loss").mkdir(parents=True)
    (tmp_path / "failing.py").write_text(FAILING)
    (tmp_path / "conf/loss/failing.yaml").write_text(f"_target_: failing.FailingHead\nrank: {rank}\n")
    words = [*SMALL, "trainer=ddp_cpu", "loss=softmax,failing,cluster", "hydra.sweep.dir=runs"]
    process = fer("train", "-m", "--config-dir", "conf", *words, folder=tmp_path)
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 1, said
    assert f"failed: loss=failing: ArithmeticError: rank {rank} had enough (runs/failing-" in said
    assert [name.split("-")[0] for name in sorted(numbers(tmp_path / "runs"))] == ["cluster", "softmax"]
    again = [*words, "loss=softmax,failing,cluster"]
    process = fer("train", "-m", "--config-dir", "conf", *again, folder=tmp_path)
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 1
    assert "to do" not in said, "what failed by itself is not tried again unasked"
    assert f"failed: loss=failing: ArithmeticError: rank {rank} had enough" in said


def test_what_failed_is_tried_anew_when_asked(basic: Path) -> None:
    folder = basic.parent / "tried anew"
    (run,) = basic.glob("softmax-none-feature_extraction-s0-*")
    (folder / run.name).mkdir(parents=True)
    (folder / run.name / claim.FAILURE).write_text(json.dumps({"said": "out of memory", "when": 0.0}))
    code, said = sweep(folder, "loss=softmax", "seed=0")
    assert code == 1
    assert re.search("failed: data.rows=803.* seed=0: out of memory", said)
    assert "--retry-failed trains it anew" in said
    code, said = sweep(folder, "loss=softmax", "seed=0", "--retry-failed")
    assert code == 0, said
    assert numbers(folder)[run.name] == numbers(basic)[run.name]
    assert not (folder / run.name / claim.FAILURE).exists()


def test_a_run_that_somebody_trains_is_not_trained_beside_it(basic: Path) -> None:
    folder = basic.parent / "claimed"
    with claim.claimed(folder):
        process = fer("train", *SMALL, "loss=softmax", f"hydra.run.dir={folder}")
        said, _ = process.communicate(timeout=200)
    assert process.returncode == 75
    assert "another process trains this run at the moment" in said
    assert not (folder / claim.FAILURE).exists()


def test_a_launcher_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    code, said = sweep(tmp_path, "seed=0,1", "hydra/launcher=nowhere")
    assert code == 2
    assert said.startswith(
        "fer: hydra/launcher=nowhere: Could not find 'hydra/launcher/nowhere' Available options in"
    )
    assert len(said.splitlines()) == 1
