"""Nothing that a command has started lives ten seconds after a SIGKILL of the command, whatever it is doing."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import HANGING, is_there, marked, tree, until_gone, wait_until
from runs import SMALL

from fer_lightning.config.shipped import shipped

ALLOWED = 10.0
"""Seconds that processes have to end: what is promised, and no measure of speed."""

# a head that is stuck in a call of C for ever: it answers no signal and lets no other thread of Python run
STUCK = """
import ctypes
import os
import pathlib
import signal

from fer_lightning.losses.softmax import SoftmaxHead


class StuckHead(SoftmaxHead):
    steps = 0

    def forward(self, embeddings, labels=None):
        self.steps += self.training
        if self.steps > 4 and "STUCK" in os.environ:  # before, commands try it out themselves
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            pathlib.Path(os.environ["STUCK"], str(os.getpid())).touch()
            ctypes.PyDLL(None).sleep(600)
        return super().forward(embeddings, labels)
"""
TRAINING = [*SMALL, "stage=fine_tuning", "stage.epochs=2", "loss=stuck"]

FER = ["-m", "fer_lightning"]
COMMANDS = {
    "sweep": (1, [*FER, "train", "-m", *TRAINING, "seed=0,1"]),
    "sweep over ranks": (2, [*FER, "train", "-m", *TRAINING, "seed=0,1", "trainer=ddp_cpu"]),
    "joblib": (
        2,
        [*FER, "train", "-m", *TRAINING, "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=3"],
    ),
    "submitit": (2, [*FER, "train", "-m", *TRAINING, "seed=0,1", "hydra/launcher=submitit_local"]),
    "one run": (1, [*FER, "train", *TRAINING]),
    "one run over ranks": (2, [*FER, "train", *TRAINING, "trainer=ddp_cpu", "data.workers=1"]),
    "run": (1, ["-m", "fer_lightning.run", *TRAINING, "data.workers=2"]),
    "run over ranks": (2, ["-m", "fer_lightning.run", *TRAINING, "trainer=ddp_cpu"]),
}


class Command:
    """A command whose processes are known by a variable of their environment."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self.mark = f"FER_TEST_MARK={uuid.uuid4()}"
        name, _, value = self.mark.partition("=")
        self.stuck = folder / "stuck"
        self.stuck.mkdir()
        self.log = folder / "log.txt"
        environment = {**os.environ, name: value, "STUCK": str(self.stuck)}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def until_stuck(self, number: int) -> None:
        """Wait until so many processes train."""
        wait_until(lambda: self.process.poll() is not None or len([*self.stuck.iterdir()]) >= number, "training")
        assert self.process.poll() is None, self.log.read_text()

    def kill(self) -> None:
        """Kill the command alone, and see that the others end, too."""
        there = {*marked(self.mark), *tree(self.process.pid)} - {self.process.pid}
        assert there
        self.process.kill()
        self.process.wait(HANGING)
        until_gone(there, ALLOWED)
        assert not marked(self.mark), "started meanwhile"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conf/loss").mkdir(parents=True)
    (tmp_path / "stuck_head.py").write_text(STUCK)
    text = (shipped("conf") / "loss/softmax.yaml").read_text()
    (tmp_path / "conf/loss/stuck.yaml").write_text(
        text.replace("fer_lightning.losses.softmax.SoftmaxHead", "stuck_head.StuckHead")
    )
    return tmp_path


@pytest.fixture
def commands(folder: Path) -> Iterator[list[Command]]:
    """Commands of a test; whatever is left of them is killed in the end."""
    started: list[Command] = []
    yield started
    for command in started:
        for pid in (command.process.pid, *marked(command.mark)):
            if is_there(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.faults
@pytest.mark.parametrize(("training", "words"), COMMANDS.values(), ids=COMMANDS)
def test_nothing_lives_ten_seconds_after_a_kill(
    folder: Path, commands: list[Command], training: int, words: list[str]
) -> None:
    command = Command([*words, "--config-dir", "conf"], folder)
    commands.append(command)
    command.until_stuck(training)
    command.kill()
