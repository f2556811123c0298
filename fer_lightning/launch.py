"""Cells as child processes: each trains in a process tree of its own, and is done when its result is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from fer_lightning import results
from fer_lightning.config import Composer
from fer_lightning.contracts import ClassStats
from fer_lightning.errors import UserError

if TYPE_CHECKING:
    from fer_lightning.objective import Distinct, Objective

_OF_ANOTHER_RUN = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED")

Child: TypeAlias = "subprocess.Popen[str]"

_DECIDES = ("data", "backbone", "stage", "trainer")


def child(words: Sequence[str], output: IO[str] | None = None, errors: IO[str] | int | None = None) -> Child:
    """Start ``python -m fer_lightning.run`` with an environment that knows of no other run's ranks.

    Args:
        words: its command line.
        output: where its stdout goes; None: to this process's.
        errors: likewise its stderr.
    """
    environment = {key: value for key, value in os.environ.items() if key not in _OF_ANOTHER_RUN}
    # threads that wait for one another must not keep the cores busy: cells run side by side
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    command = [sys.executable, "-m", "fer_lightning.run", *words]
    return subprocess.Popen(command, env=environment, stdout=output, stderr=errors, text=True)


def wait(process: Child) -> int:
    """The exit code of a child; where we are interrupted, it is ended first."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        try:
            process.wait(10)  # Ctrl-C went to it, too
        except subprocess.TimeoutExpired:
            end(process)
        raise
    except BaseException:
        end(process)
        raise


def end(process: Child) -> None:
    """Ask a child to end, and insist after ten seconds."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Launcher:
    """Knows cells by their content: what they are is asked once for each choice of data and backbone.

    Args:
        config_dir: a user's folder with further options.

    Attributes:
        compose: composes the cells' configurations.

    Raises:
        UserError: there is no such folder.
    """

    def __init__(self, config_dir: str | None = None) -> None:
        self.compose = Composer(config_dir)
        self.options = ["--config-dir", config_dir] if config_dir else []
        self._answers: dict[str, dict[str, Any]] = {}
        self._objectives: dict[tuple[str, ...], Objective] = {}

    def directory(self, overrides: Sequence[str], base: Path) -> Path:
        """The folder of a cell in ``base``; prepares its faces and pre-trained weights where they are missing.

        Raises:
            UserError: the configuration is wrong, or the child that sets up said so and ended.
        """
        config, known = self._cell(overrides)
        return base / results.cell_name(config, known["protocol"])

    def setting(self, overrides: Sequence[str]) -> str:
        """``results.setting`` of the result that a cell will have."""
        config, known = self._cell(overrides)
        return results.setting({"config": config, "protocol": known["protocol"]})

    def objective(self, overrides: Sequence[str]) -> Objective:
        """What a cell minimises, to compare it with others before anything is trained."""
        from fer_lightning.objective import objective  # torch, which a sweep that is complete needs not

        key = tuple(overrides)
        if key not in self._objectives:
            config, known = self._cell(overrides)
            stats = ClassStats(**{key: tuple(value) for key, value in known["class_stats"].items()})
            self._objectives[key] = objective(config, known["protocol"], stats)
        return self._objectives[key]

    @cached_property
    def distinct(self) -> Distinct[Path]:
        """What the cells of a sweep minimise, added in their order by the folders they are in."""
        from fer_lightning.objective import Distinct

        return Distinct()

    def measure(self, overrides: Sequence[str]) -> dict[str, Any]:
        """What a cell costs, see fer_lightning.measure; measured once for each data, backbone and stage."""
        config = self.compose(overrides)
        return self._ask("--measure", overrides, [config[group] for group in _DECIDES])

    def is_complete(self, overrides: Sequence[str], base: Path) -> bool:
        """Whether a cell's result is there; where its faces are not even prepared, it is not."""
        known = self.measure(overrides)
        if "protocol" not in known:
            return False
        config = self.compose(overrides)
        return results.read(base / results.cell_name(config, known["protocol"])) is not None

    def _cell(self, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A cell's config, and what only a child can find out: its protocol and class counts."""
        config = self.compose(overrides)
        return config, self._ask("--protocol", overrides, [config[group] for group in _DECIDES])

    def _ask(self, what: str, overrides: Sequence[str], decides: Any) -> dict[str, Any]:
        """The answer of a child that imports what this process must not; asked once for what decides it."""
        key = json.dumps([what, decides], sort_keys=True)
        if key not in self._answers:
            with tempfile.TemporaryDirectory() as folder:
                answer, said = Path(folder) / "answer.json", Path(folder) / "stderr.txt"
                with said.open("w") as errors:
                    wait(child([what, str(answer), *self.options, *overrides], errors=errors))
                if not answer.exists():
                    last = (
                        said.read_text().strip().splitlines() or ["the process that sets up cells was killed"]
                    )[-1]
                    raise UserError(last.removeprefix("fer: "))
                self._answers[key] = json.loads(answer.read_text())
        return self._answers[key]

    def start(
        self, overrides: Sequence[str], directory: Path, output: IO[str] | None = None, *, trial: bool = False
    ) -> Child:
        """Start a cell, or a trial of one, in its folder; ``output`` takes what it says, as in ``child``."""
        kind = ["--trial"] if trial else []
        return child(["--directory", str(directory), *kind, *self.options, *overrides], output, output)
