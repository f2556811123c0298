"""From overrides to planned runs; what needs torch for that is computed in a child process."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_lightning.config import identity
from fer_lightning.config.compose import Composer
from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.errors import UserError
from fer_lightning.core.progress import followed
from fer_lightning.evaluation import results
from fer_lightning.run import launch
from fer_lightning.sweeps.planned_run import PlannedRun

if TYPE_CHECKING:
    from fer_lightning.sweeps.same_experiment import Objective

log = logging.getLogger(__name__)

_SETUP_GROUPS = ("data", "backbone", "stage", "trainer")


class Planner:
    """Plans runs, and asks a child process once for each choice of data, backbone, stage and trainer.

    Args:
        config_dir: a user's folder with further options.

    Raises:
        UserError: the folder does not exist.
    """

    def __init__(self, config_dir: str | None = None) -> None:
        self.config_dir = config_dir
        self._compose = cache(Composer(config_dir))
        self.options = ["--config-dir", config_dir] if config_dir else []
        self._answers: dict[str, dict[str, Any]] = {}
        self._shown: set[str] = set()

    def compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return the configuration of a run, composed once; callers must not change it.

        Raises:
            UserError: an override does not fit the configuration.
        """
        return self._compose(tuple(overrides))

    def planned(self, overrides: Sequence[str], base: Path, label: str = "", *, trial: bool = False) -> PlannedRun:
        """Plan a run with a folder in ``base``; prepare its faces and pre-trained weights if they are missing.

        Args:
            overrides: of the run.
            base: the folder of the sweep.
            label: the name of the run in messages; by default its overrides.
            trial: see PlannedRun.

        Raises:
            UserError: the configuration is wrong, or the run cannot be set up.
        """
        config, answer = self._set_up(overrides)
        directory = base / identity.run_name(config, answer["protocol"])
        trainer = config["trainer"]
        on_this_machine = trainer["accelerator"] == "gpu" and trainer["started_by"] == "fer"
        gpus = trainer["devices"] if on_this_machine else 0
        prepared = tuple(answer["prepared"])
        return PlannedRun(tuple(overrides), directory, label or " ".join(overrides), trial, gpus, prepared)

    def setting(self, overrides: Sequence[str]) -> str:
        """Return the ``identity.setting`` of the result that a run will have."""
        config, answer = self._set_up(overrides)
        return identity.setting(config, answer["protocol"])

    def objective(self, overrides: Sequence[str]) -> Objective:
        """Return what a run minimises, to be compared with other runs before anything is trained."""
        # imports torch, which a complete sweep does not need
        from fer_lightning.sweeps.same_experiment import objective

        config, answer = self._set_up(overrides)
        stats = ClassStats(**{key: tuple(value) for key, value in answer["class_stats"].items()})
        return objective(config, answer["protocol"], stats)

    def measure(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Return the cost of a run, see run/estimate_cost.py; measured once for each data, backbone and stage."""
        return self._ask("--measure", overrides)

    def is_complete(self, overrides: Sequence[str], base: Path) -> bool:
        """Return whether a run has a result; it has none while its faces are not prepared."""
        answer = self.measure(overrides)
        if "protocol" not in answer:
            return False
        return results.read(base / identity.run_name(self.compose(overrides), answer["protocol"])) is not None

    def _show(self, line: str) -> None:
        """Log a line of a child process, such as the progress of its preparation, once for all setups."""
        if line not in self._shown and not line.startswith("fer: "):  # that is its error, which is raised
            self._shown.add(line)
            log.info("%s", line)

    def _set_up(self, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a run's config, and the protocol and class counts that only a child process can tell."""
        return self.compose(overrides), self._ask("--protocol", overrides)

    def _ask(self, option: str, overrides: Sequence[str]) -> dict[str, Any]:
        """Return what ``python -m fer_lightning.run`` writes for an option, asked once for each setup."""
        config = self.compose(overrides)
        key = json.dumps([option, *(_without_rates(config[group]) for group in _SETUP_GROUPS)], sort_keys=True)
        if key not in self._answers:
            with tempfile.TemporaryDirectory() as folder:
                answer, log_file = Path(folder) / "answer.json", Path(folder) / "log.txt"
                with followed(log_file, self._show):
                    launch.wait(partial(launch.fork, [option, str(answer), *self.options, *overrides], log_file))
                if not answer.exists():
                    lines = log_file.read_text(encoding="utf-8").strip().splitlines()
                    raise UserError(
                        lines[-1].removeprefix("fer: ") if lines else "the process that sets up runs died"
                    )
                self._answers[key] = json.loads(answer.read_text(encoding="utf-8"))
        return self._answers[key]


def _without_rates(group: dict[str, Any]) -> dict[str, Any]:
    """Return a group without the learning rates of stages, which a search varies and no answer depends on."""
    return {
        key: _without_rates(value) if isinstance(value, dict) else value
        for key, value in group.items()
        if key != "lr_scale"
    }
