"""``fer train -m`` on the CPU whose runs each lease a GPU all the same: smoke_gpu.py's dry run of leases.

PATH=folder/of/a/made-up/nvidia-smi:$PATH python experiments/benchmarks/leased_sweep.py seed=0,1,2 ...
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from fer_lightning.config.overrides import apart
from fer_lightning.core.errors import report
from fer_lightning.core.files import user_path
from fer_lightning.sweeps import grid, hydra_launchers
from fer_lightning.sweeps.gpu_leases import VISIBLE
from fer_lightning.sweeps.planner import Planner
from fer_lightning.sweeps.run_sweep import Sweep


def main() -> int:
    os.environ.pop(VISIBLE, None)  # the names of GPUs that are not in the listing
    overrides, of_hydra = apart(sys.argv[1:])
    base = user_path(hydra_launchers.settings(of_hydra).sweep.dir)
    runs = grid.plan(hydra_launchers.grid(overrides), Planner(), base)
    leasing = [replace(run, gpus=1) for run in runs]
    with report() as outcome:
        outcome.code = 1 if Sweep(leasing, base, of_hydra).run() else 0
    return outcome.code


if __name__ == "__main__":
    raise SystemExit(main())
