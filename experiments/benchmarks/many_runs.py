"""A sweep of 2,000 runs, none of which is trained: how long its planning, its status and its table take.

    python experiments/benchmarks/many_runs.py [--runs 2000] [--out experiments/benchmarks/many_runs.json]

The runs are those of ``fer train -m`` over 40 rows of losses, class weights and lambdas with 50 seeds each. What a
child process has to find out once (faces, pre-trained weights) is made up; every run's configuration is composed,
its folder named, and the runs that are the same experiment are found: 400 of 2,000. Then all but the last ten of
the others get a made-up result of real size, and ``fer sweep status`` and ``fer table show`` are run on them, each
in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from telling import tell

from fer_lightning.core import versions
from fer_lightning.core.files import write_atomic
from fer_lightning.evaluation import metrics, results
from fer_lightning.sweeps import grid, hydra_launchers, planned_run
from fer_lightning.sweeps.planned_run import PlannedRun
from fer_lightning.sweeps.planner import Planner

LOSSES = ("center", "cluster", "island", "contrastive_center")
WEIGHTS = ("none", "min_over_count", "sqrt_inverse", "median_frequency", "effective_number")
TESTED = 4000


class MadeUp(Planner):
    """Knows the protocol without asking a child."""

    def _ask(self, option: str, overrides: Any) -> dict[str, Any]:
        names = self.compose(overrides)["data"]["classes"]
        counts = [3000, 5000, 1000, 500, 250, 150, 900, 156]
        stats = {"names": names, "counts": counts[: len(names)]}
        return {
            "protocol": {"data": "made up", "classes": names, "faces": "0" * 64},
            "class_stats": stats,
            "prepared": [],
        }


def result(planner: MadeUp, run: PlannedRun, random: torch.Generator) -> dict[str, Any]:
    """What a trained run would have left."""
    config = planner.compose(run.words)
    classes = config["data"]["classes"]
    labels = torch.arange(TESTED) % len(classes)
    logits = torch.randn(TESTED, len(classes), generator=random) + 2 * torch.eye(len(classes))[labels]
    own = metrics.evaluate(logits.double().softmax(1), labels, classes)
    minival = own["metrics"]["macro_recall"]
    return {
        **own,
        "posthoc": dict.fromkeys(("logit_adjustment", "tau_norm", "temperature"), own),
        "classes": classes,
        "protocol": planner._ask("", run.words)["protocol"],
        "provenance": {"versions": versions.versions(), "machine": {"processor": "made up", "threads": 1}},
        "stages": [
            {"name": "fine_tuning", "epochs": 1, "best_epoch": 0, "minival_macro_recall": minival, "seconds": 9.0},
        ],
        "config": config,
        "seed": config["seed"],
        "seconds": 10.0,
    }


def seconds(words: list[str]) -> float:
    """Processor time is not asked for: a person waits for the clock."""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "fer_lightning", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"many_runs: {done.stderr}")
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=50, help="of each row")
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    lambdas = -(-options.runs // (options.seeds * len(LOSSES) * len(WEIGHTS)))
    words = [
        f"loss={','.join(LOSSES)}",
        f"class_weights={','.join(WEIGHTS)}",
        f"loss.weight={','.join(f'{value:.5g}' for value in np.logspace(-3, 0, lambdas))}",
        f"seed={','.join(map(str, range(options.seeds)))}",
    ]
    told: dict[str, Any] = {"seconds": {}}
    with tempfile.TemporaryDirectory() as folder:
        base, planner, random = Path(folder), MadeUp(), torch.Generator().manual_seed(0)
        begin = time.perf_counter()
        planned = grid.plan(hydra_launchers.grid(words), planner, base)
        planned_run.write(planned, base)
        told["runs"] = len(planned)
        told["seconds"]["planning"] = time.perf_counter() - begin
        for run in planned[:-10]:
            write_atomic(run.directory / results.RESULT, json.dumps(result(planner, run, random)))
        told["seconds"]["status"] = seconds(["sweep", "status", folder])
        told["seconds"]["table"] = seconds(["table", "show", folder, "--allow-partial"])
    told["seconds"] = {name: round(value, 1) for name, value in told["seconds"].items()}
    tell(told, options.out)


if __name__ == "__main__":
    main()
