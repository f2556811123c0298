"""Which runs there are: overrides -> folder, and what has to be asked of a child process for that."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_lightning.config import identity
from fer_lightning.config.compose import Composer
from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.errors import UserError
from fer_lightning.evaluation import results
from fer_lightning.run import launch
from fer_lightning.sweeps.planned_run import PlannedRun

if TYPE_CHECKING:
    from fer_lightning.sweeps.same_experiment import Objective

_DECIDES = ("data", "backbone", "stage", "trainer")


class Planner:
    """Knows runs by their content: what they are is asked once for each choice of data and backbone.

    Args:
        config_dir: a user's folder with further options.

    Raises:
        UserError: there is no such folder.
    """

    def __init__(self, config_dir: str | None = None) -> None:
        self.config_dir = config_dir
        self._composer = Composer(config_dir)
        self._configs: dict[tuple[str, ...], dict[str, Any]] = {}
        self.options = ["--config-dir", config_dir] if config_dir else []
        self._answers: dict[str, dict[str, Any]] = {}
        self._objectives: dict[tuple[str, ...], Objective] = {}

    def compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The configuration of a run, composed once; it is not to be changed.

        Raises:
            UserError: an override does not fit.
        """
        words = tuple(overrides)
        if words not in self._configs:
            self._configs[words] = self._composer(words)
        return self._configs[words]

    def planned(self, overrides: Sequence[str], base: Path, label: str = "", *, trial: bool = False) -> PlannedRun:
        """The run with its folder in ``base``; prepares its faces and pre-trained weights where they are missing.

        Raises:
            UserError: the configuration is wrong, or the child that sets up said so and ended.
        """
        config, known = self._run(overrides)
        directory = base / identity.run_name(config, known["protocol"])
        trainer = config["trainer"]
        here = trainer["accelerator"] == "gpu" and trainer["started_by"] == "fer"
        gpus = trainer["devices"] if here else 0
        return PlannedRun(tuple(overrides), directory, label or " ".join(overrides), trial, gpus)

    def setting(self, overrides: Sequence[str]) -> str:
        """``results.setting`` of the result that a run will have."""
        config, known = self._run(overrides)
        return identity.setting(config, known["protocol"])

    def objective(self, overrides: Sequence[str]) -> Objective:
        """What a run minimises, to compare it with others before anything is trained."""
        from fer_lightning.sweeps.same_experiment import (
            objective,  # torch, which a sweep that is complete needs not
        )

        key = tuple(overrides)
        if key not in self._objectives:
            config, known = self._run(overrides)
            stats = ClassStats(**{key: tuple(value) for key, value in known["class_stats"].items()})
            self._objectives[key] = objective(config, known["protocol"], stats)
        return self._objectives[key]

    def measure(self, overrides: Sequence[str]) -> dict[str, Any]:
        """What a run costs, see run/estimate_cost.py; measured once for each data, backbone and stage."""
        config = self.compose(overrides)
        return self._ask("--measure", overrides, [config[group] for group in _DECIDES])

    def is_complete(self, overrides: Sequence[str], base: Path) -> bool:
        """Whether a run's result is there; where its faces are not even prepared, it is not."""
        known = self.measure(overrides)
        if "protocol" not in known:
            return False
        return results.read(base / identity.run_name(self.compose(overrides), known["protocol"])) is not None

    def _run(self, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A run's config, and what only a child can find out: its protocol and class counts."""
        config = self.compose(overrides)
        return config, self._ask("--protocol", overrides, [config[group] for group in _DECIDES])

    def _ask(self, what: str, overrides: Sequence[str], decides: Any) -> dict[str, Any]:
        """The answer of a child that imports what this process must not; asked once for what decides it."""
        key = json.dumps([what, decides], sort_keys=True)
        if key not in self._answers:
            with tempfile.TemporaryDirectory() as folder:
                answer, said = Path(folder) / "answer.json", Path(folder) / "log.txt"
                launch.wait(partial(launch.fork, [what, str(answer), *self.options, *overrides], said))
                if not answer.exists():
                    last = (said.read_text().strip().splitlines() or ["the process that sets up runs was killed"])[
                        -1
                    ]
                    raise UserError(last.removeprefix("fer: "))
                self._answers[key] = json.loads(answer.read_text())
        return self._answers[key]
