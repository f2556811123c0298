"""What a command imports before it works: nothing that somebody would wait for in vain."""

from __future__ import annotations

import subprocess
import sys

PLANNING = """
import sys
from fer_lightning.cli import sweep, table, train
from fer_lightning.tables import run_table, tune
assert "torch" not in sys.modules, "torch for a sweep that may be complete"
from fer_lightning.sweeps import same_experiment
print({"torch", "pytorch_lightning", "torchmetrics", "timm", "albumentations"} & set(sys.modules))
"""


def test_a_sweep_is_planned_without_lightning() -> None:
    done = subprocess.run([sys.executable, "-c", PLANNING], capture_output=True, text=True)
    assert done.stdout == "{'torch'}\n", done.stderr
