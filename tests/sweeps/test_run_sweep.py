"""Sweeps through Hydra's launchers: each gives the same table, failures stay alone, no run is trained twice."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from joblib.externals.loky import get_reusable_executor
from processes import HANGING, marked, wait_until
from runs import SMALL, Outcome, fer, result, scores, weights

from fer_lightning.config.shipped import shipped
from fer_lightning.evaluation import results
from fer_lightning.run import claim
from fer_lightning.run.__main__ import main as run_main

# a learning rate with which runs differ in what they predict
WORDS = [*SMALL, "stage=feature_extraction", "stage.epochs=2", "optimizer.lr=0.1"]
GRID = ["loss=softmax,cluster", "seed=0,1"]

# a head that raises on one rank, in the middle of training
FAILING = """
import os

from fer_lightning.losses.softmax import SoftmaxHead


class FailingHead(SoftmaxHead):
    def __init__(self, feature_dim, class_stats, *, rank: int):
        super().__init__(feature_dim, class_stats, label_smoothing=0.1 + 0.1 * rank)
        self.rank = rank
        self.steps = 0

    def forward(self, embeddings, labels=None):
        self.steps += self.training
        if self.steps > 3 and int(os.environ.get("RANK", "0")) == self.rank:
            raise ArithmeticError(f"rank {self.rank} had enough")
        return super().forward(embeddings, labels)
"""


def sweep(folder: Path, *words: str) -> Outcome:
    return fer("train", "-m", *WORDS, *words, f"hydra.sweep.dir={folder}")


def numbers(folder: Path) -> dict[str, Any]:
    """Everything that runs come to, by their names, to the last bit of their weights."""
    found = {}
    for path in folder.glob("*/result.json"):
        kept = b"".join(value.numpy().tobytes() for value in weights(path.parent).values())
        found[path.parent.name] = {
            **scores(path.parent),
            "protocol": result(path.parent)["protocol"],
            "weights": hashlib.sha256(kept).hexdigest(),
        }
    return found


def only(told: dict[str, Any], *parts: str) -> dict[str, Any]:
    """The runs with these parts in their names."""
    return {name: run for name, run in told.items() if all(part in name for part in parts)}


def trained(folder: Path) -> list[int]:
    """How often each run was trained from its first epoch on."""
    logs = [path.read_text() for path in folder.glob("*/log.txt")]
    return [len(re.findall(r"epoch 1 of 2", log)) for log in logs]


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "basic"
    code, said, _ = sweep(folder, *GRID)
    assert code == 0, said
    assert "0 of 4 runs are complete, 4 to do" in said
    assert re.search(
        r"\[4 of 4\] loss=cluster seed=1: macro recall \d+\.\d, minival \d+\.\d, in .* s; best by", said
    )
    return folder


def test_one_at_a_time_each_in_a_process_of_its_own_that_shares_the_imports(basic: Path) -> None:
    told = numbers(basic)
    assert len(told) == 4
    for what in ("metrics", "weights"):
        assert len({str(run[what]) for run in told.values()}) == 4, "no test here would notice a mixed-up run"
    assert trained(basic) == [1] * 4


@pytest.mark.parametrize(
    ("launcher", "losses"),
    [("joblib hydra.launcher.n_jobs=2", "softmax,cluster"), ("submitit_local", "softmax")],
)
def test_other_launchers_give_the_same_table(
    basic: Path, launcher: str, losses: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = basic.parent / launcher.split()[0]
    code, said, _ = sweep(folder, f"loss={losses}", "seed=0", *f"hydra/launcher={launcher}".split())
    get_reusable_executor().shutdown()  # joblib's workers, which would wait for more
    assert code == 0, said
    assert "Traceback" not in capfd.readouterr().err  # of the launcher's workers, which write past this process
    count = len(losses.split(","))
    assert f"[{count} of {count}]" in said
    told = only(numbers(basic), "-s0-")
    assert numbers(folder) == {name: run for name, run in told.items() if name.partition("-")[0] in losses}


@pytest.mark.skipif(find_spec("ray") is None, reason="extra ray is not installed")
def test_ray_on_one_machine_gives_the_same_table_and_leaves_no_process(
    basic: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray would keep a token
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("FER_TEST_OF_RAY", str(tmp_path))
    command = [sys.executable, "-m", "fer_lightning", "train", "-m", *WORDS, *GRID]
    command += ["hydra/launcher=ray", f"hydra.sweep.dir={tmp_path / 'ray'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGING)  # Ray ends with its process
    assert done.returncode == 0, done.stdout + done.stderr
    assert numbers(tmp_path / "ray") == numbers(basic)
    wait_until(lambda: not marked(f"FER_TEST_OF_RAY={tmp_path}"), "the end of Ray's processes")


def test_a_process_that_imports_everything_itself_gives_the_same_digits(basic: Path) -> None:
    (folder,) = basic.glob("cluster-none-feature_extraction-s1-*")
    alone = basic.parent / "alone"
    assert run_main([*WORDS, "loss=cluster", "seed=1", "--directory", str(alone / folder.name)]) == 0
    assert numbers(alone) == only(numbers(basic), "cluster-", "-s1-")


def test_what_is_complete_is_left_alone_and_what_is_new_is_added(basic: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    shutil.copytree(basic, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}
    assert len(before) == 4
    code, said, _ = sweep(folder, *GRID)
    assert code == 0
    assert "all 4 runs are complete, nothing is trained" in said
    code, said, _ = sweep(folder, "loss=softmax", "seed=0,2")
    assert code == 0
    assert "1 of 2 runs are complete, 1 to do" in said
    assert before.items() <= {path: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}.items()
    assert "5 runs: 5 done" in fer("sweep", "status", str(folder)).out


@pytest.mark.parametrize("finished", [True, False])
def test_a_sweep_waits_for_what_another_one_trains_and_goes_on_with_what_that_leaves(
    basic: Path, tmp_path: Path, finished: bool
) -> None:
    (there,) = basic.glob("softmax-none-feature_extraction-s0-*")
    (last,) = basic.glob("cluster-none-feature_extraction-s0-*")
    own = tmp_path / there.name
    held = threading.Event()

    def another() -> None:
        """Hold a run until the sweep has nothing else to do, and leave its result or nothing."""
        with suppress(InterruptedError), claim.claimed(own):
            held.set()
            wait_until((tmp_path / last.name / results.RESULT).exists, "the sweep's other run")
            if not finished:
                raise InterruptedError
            shutil.copytree(there, own, ignore=shutil.ignore_patterns(results.RESULT), dirs_exist_ok=True)
            shutil.copy2(there / results.RESULT, own / "arriving")
            (own / "arriving").rename(own / results.RESULT)

    thread = threading.Thread(target=another)
    thread.start()
    assert held.wait(HANGING)
    code, said, _ = sweep(tmp_path, "loss=softmax,cluster", "seed=0")
    thread.join(60)
    assert code == 0, said
    assert numbers(tmp_path) == only(numbers(basic), "-s0-")
    first, second = ((folder / there.name / results.RESULT).stat().st_mtime_ns for folder in (basic, tmp_path))
    assert (first == second) is finished


@pytest.mark.faults
def test_two_sweeps_of_one_moment_train_each_run_once(basic: Path, tmp_path: Path) -> None:
    folder = tmp_path / "together"
    command = [sys.executable, "-u", "-m", "fer_lightning", "train", "-m", *WORDS, *GRID]
    with subprocess.Popen(
        [*command, f"hydra.sweep.dir={folder}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as other:
        assert other.stdout is not None
        first = other.stdout.readline()
        assert "0 of 4 runs are complete, 4 to do" in first, first + other.stdout.read()
        code, said, _ = sweep(folder, *GRID)
        told, _ = other.communicate(timeout=HANGING)
    assert code == 0, said
    assert other.returncode == 0, told
    assert numbers(folder) == numbers(basic)
    assert trained(folder) == [1] * 4


def test_a_run_that_fails_is_named_and_the_others_are_right(basic: Path, tmp_path: Path) -> None:
    code, said, _ = sweep(tmp_path, "loss=softmax", "seed=0,1", "loss.label_smoothing=0.0,2.0")
    assert code == 1
    assert re.search(r"failed: seed=0 loss.label_smoothing=2.0: loss: label_smoothing must be", said)
    assert numbers(tmp_path) == only(numbers(basic), "softmax-")
    status = fer("sweep", "status", str(tmp_path))
    assert "4 runs: 2 failed, 2 done" in status.out
    assert status.code == 1


def test_an_exception_on_one_rank_alone_fails_that_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which the folder of the user's own code is added
    (tmp_path / "conf/loss").mkdir(parents=True)
    (tmp_path / "failing.py").write_text(FAILING)
    for rank in (0, 1):
        (tmp_path / f"conf/loss/failing{rank}.yaml").write_text(f"_target_: failing.FailingHead\nrank: {rank}\n")
    words = [*WORDS, "trainer=ddp_cpu", "loss=failing0,failing1,cluster", "hydra.sweep.dir=runs"]
    failed = [
        rf"failed: loss=failing{rank}: ArithmeticError: rank {rank} had enough \(runs/failing{rank}-"
        for rank in (0, 1)
    ]
    code, said, _ = fer("train", "-m", "--config-dir", "conf", *words, folder=tmp_path)
    assert code == 1, said
    for line in failed:
        assert re.search(line, said)
    assert [name.split("-")[0] for name in sorted(numbers(tmp_path / "runs"))] == ["cluster"]
    code, said, _ = fer("train", "-m", "--config-dir", "conf", *words, folder=tmp_path)
    assert code == 1
    assert "to do" not in said, "what failed by itself is not tried again unasked"
    for line in failed:
        assert re.search(line, said)


# a head that crashes where it is told to, as code that was compiled wrongly does
CRASHING = """
import os
import signal

from fer_lightning.losses.softmax import SoftmaxHead


class CrashingHead(SoftmaxHead):
    steps = 0

    def forward(self, embeddings, labels=None):
        self.steps += self.training
        if self.steps > 4 and "SIGNAL" in os.environ:  # before, the command tries it out itself
            os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))
        return super().forward(embeddings, labels)
"""


def crashing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words of a run with such a head."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which the folder of the user's own code is added
    (folder / "conf/loss").mkdir(parents=True)
    (folder / "crashing.py").write_text(CRASHING)
    text = (shipped("conf") / "loss/softmax.yaml").read_text()
    own = re.sub(r"^_target_: .*", "_target_: crashing.CrashingHead", text, flags=re.MULTILINE)
    (folder / "conf/loss/crashing.yaml").write_text(own)
    return [*WORDS, "--config-dir", str(folder / "conf"), "loss=crashing"]


def test_a_run_that_crashes_has_failed_and_one_that_is_killed_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", "-m", *crashing(tmp_path, monkeypatch), f"hydra.sweep.dir={tmp_path / 'runs'}"]
    monkeypatch.setenv("SIGNAL", "SIGKILL")
    code, said, _ = fer(*words)
    assert code == 1
    assert "not complete: " in said
    assert "1 stopped" in fer("sweep", "status", str(tmp_path / "runs")).out
    monkeypatch.setenv("SIGNAL", "SIGSEGV")
    code, said, _ = fer(*words)
    assert code == 1
    assert re.search(r"failed: .*: ended by SIGSEGV, see log.txt \(.*; --retry-failed trains it anew\)", said)
    monkeypatch.delenv("SIGNAL")
    code, said, _ = fer(*words)
    assert code == 1
    assert "to do" not in said
    code, said, _ = fer(*words, "--retry-failed")
    assert code == 0, said


def test_a_single_run_that_crashes_says_so_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["train", *crashing(tmp_path, monkeypatch), f"hydra.run.dir={tmp_path / 'run'}"]
    for name, code, said in (
        ("SIGKILL", 74, "fer: ended by SIGKILL; the same command goes on with it\n"),
        ("SIGABRT", 1, "fer: ended by SIGABRT\n"),
    ):
        monkeypatch.setenv("SIGNAL", name)
        outcome = fer(*words)
        assert (outcome.code, outcome.err) == (code, said)
    assert claim.read_failure(tmp_path / "run") == "ended by SIGABRT"


def test_what_failed_is_tried_anew_when_asked(basic: Path, tmp_path: Path) -> None:
    (run,) = basic.glob("softmax-none-feature_extraction-s0-*")
    failure = tmp_path / run.name / claim.FAILURE
    failure.parent.mkdir()
    failure.write_text(json.dumps({"said": "out of memory", "when": 0.0}))
    code, said, _ = sweep(tmp_path, "loss=softmax", "seed=0")
    assert code == 1
    assert re.search("failed: data.rows=160.* seed=0: out of memory", said)
    assert "--retry-failed trains it anew" in said
    code, said, _ = sweep(tmp_path, "loss=softmax", "seed=0", "--retry-failed")
    assert code == 0, said
    assert numbers(tmp_path) == only(numbers(basic), "softmax-", "-s0-")
    assert not failure.exists()


def test_a_run_that_somebody_trains_is_not_trained_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "claimed"
    with claim.claimed(folder):
        code, said, told = fer("train", *WORDS, "loss=softmax", f"hydra.run.dir={folder}")
    assert code == 75
    assert "another process trains this run at the moment" in said + told
    assert not (folder / claim.FAILURE).exists()


@pytest.mark.skipif(find_spec("ray") is not None, reason="extra ray is installed")
def test_a_launcher_of_an_extra_says_how_to_install_it(tmp_path: Path) -> None:
    code, _, told = sweep(tmp_path, "seed=0,1", "hydra/launcher=ray")
    assert code == 2
    assert told.endswith("; pip install 'fer-lightning[ray]' first\n")


def test_a_launcher_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    code, said, told = sweep(tmp_path, "seed=0,1", "hydra/launcher=nowhere")
    assert code == 2
    assert said == ""
    assert told.startswith(
        "fer: hydra/launcher=nowhere: Could not find 'hydra/launcher/nowhere' Available options in"
    )
    assert len(told.splitlines()) == 1
