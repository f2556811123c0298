"""What a command imports before it works: nothing that somebody would wait for in vain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


HELP = """
import contextlib, io, sys
from fer_lightning.cli.main import COMMANDS, main
words = [["--help"], *([name, "--help"] for name in COMMANDS), ["table", "run", "--help"], ["doctor"]]
for each in words:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            main(each)
    heavy = {"torch", "scipy", "pyarrow", "pydantic", "cv2"} & set(sys.modules)
    if heavy:
        sys.exit(f"{each} imports {heavy}")
"""


def test_help_imports_neither_scipy_nor_pydantic_nor_arrow(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", HELP], cwd=tmp_path, check=True)


QUICK = """
import contextlib, io, sys
from fer_lightning.cli.main import COMMANDS, main
words = [[name, "--help"] for name in COMMANDS] + [["table", "run", "--help"], ["evaluate", "no.ckpt"]]
words += [["weights", "import", "no.pkl", "--to", "."], ["weights", "inspect", "no.pkl"]]
words += [["predict", "no/model", "no.jpg"]]
words += [["doctor", "no/folder"], ["sweep", "status", "no/folder"]]
words += [["table", "show", "no/folder"], ["train", "loss=nothing"], ["prepare", "dat=affectnet"]]
for each in words:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            main(each)
    heavy = {"torch", "pytorch_lightning", "matplotlib", "pandas", "scipy.stats", "sklearn"} & set(sys.modules)
    if heavy:
        sys.exit(f"{each} imports {heavy}")
"""


def test_help_and_what_is_not_there_are_told_without_pytorch(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", QUICK], cwd=tmp_path, check=True)
