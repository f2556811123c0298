"""The checks of smoke_gpu.py: each runs what a user types, in processes of its own, and says what it saw."""

from __future__ import annotations

import json
import math
import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pyarrow import parquet
from smoke_commands import Failure, Skip, fer, python, run_folder

from fer_lightning.config.overrides import quoted
from fer_lightning.evaluation import results
from fer_lightning.run import evaluate_checkpoint

HERE = Path(__file__).parent
TESTS = HERE.parents[1] / "tests"

SMALL = [
    *("data.rows=1600", "data.test_per_class=40", "data.intensity=1.6", "data.label_noise=0", "stage.epochs=3"),
    *("backbone.people=100", "backbone.pictures=20", "backbone.epochs=6", "optimizer.lr=0.002"),
]
SMALLEST = [
    *("data.rows=160", "data.test_per_class=3", "data.size=32", "data.minival=0.2", "data.batch_size=16"),
    *(
        "backbone.people=4",
        "backbone.pictures=8",
        "backbone.epochs=1",
        "backbone.size=32",
        "backbone.batch_size=8",
    ),
    *("stage.epochs=1", "optimizer.lr=0.02"),
]
"""Words of a run over drawn faces on a GPU, and of one in a dry run."""

RUN = ["data=synthetic", "loss=cluster", "class_weights=min_over_count", "stage.fine_tuning.batch_norm=never"]
"""Words of all runs. BatchNorm is not trained, since it would see the pictures of its rank only."""

BF16, FLOAT32, FLOAT64 = "bf16-mixed", "32-true", "64-true"

FARTHEST = {BF16: 0.1, FLOAT32: 0.02, FLOAT64: 1e-4}
"""Largest difference of a probability from the CPU's in float32 with the same weights; TF32 has ten bits."""

FARTHEST_TRAINED = {FLOAT64: 1e-6}
"""Largest difference from the same training on the CPU in this precision; in others it grows from step to step."""


class Bench(NamedTuple):
    """What checks run on.

    Attributes:
        gpus: number of GPUs; 0 for a dry run on the CPU.
        folder: folder of all runs.
        overrides: further words of all runs.
    """

    gpus: int
    folder: Path
    overrides: Sequence[str]

    @property
    def words(self) -> list[str]:
        """Return the words that all runs share; each number of ranks that is tried divides the batch."""
        if not self.gpus:
            return [*RUN, *SMALLEST, *self.overrides]
        step = math.lcm(2, self.gpus)
        return [*RUN, *SMALL, f"data.batch_size={step * max(1, round(64 / step))}", *self.overrides]


class Check(NamedTuple):
    """A row of the table.

    Attributes:
        name: what is tried.
        seconds: limit of its time.
        see: does it until that time of the monotonic clock, and returns what was seen: numbers by name.
    """

    name: str
    seconds: float
    see: Callable[[float], dict[str, Any]]


def checks(bench: Bench) -> Iterator[Check]:
    """The checks in order: what most users need first."""
    one = "trainer=gpu" if bench.gpus else "trainer=cpu"
    several = "trainer=ddp" if bench.gpus else "trainer=ddp_cpu"
    ways: dict[str, tuple[str, list[str]]] = {
        "CPU, float32": (FLOAT32, ["trainer=cpu"]),
        "bf16-mixed, channels_last": (BF16, [one]),
        "bf16-mixed, contiguous": (BF16, [one, "trainer.channels_last=false"]),
        "float32": (FLOAT32, [one]),
        "float64": (FLOAT64, [one]),
    }
    for name, (precision, words) in ways.items():
        yield Check(name, 180, partial(way, bench, name, precision, words))
    yield Check("torch.compile", 240, partial(compiled, bench, [one, "trainer.compile=true"]))
    for devices in sorted({1, 2, max(2, bench.gpus)}):
        words = [several, f"trainer.devices={devices}"]
        name = f"ddp, {devices} {'NCCL' if bench.gpus else 'gloo'} rank{'s'[: devices - 1]}"
        yield Check(name, 120, partial(ranks, bench, name, BF16, words, devices))
        if devices > 1:
            exact = f"{name}, float64"
            yield Check(exact, 120, partial(ranks, bench, exact, FLOAT64, words, devices))
    yield Check("leases", 150, partial(leases, bench))
    yield Check("throughput", 180, partial(throughput, bench))
    yield Check("pytest -m gpu", 240, partial(gpu_tests, bench))


def way(bench: Bench, name: str, precision: str, words: Sequence[str], until: float) -> dict[str, Any]:
    """Train and test a run; compare its predictions with the CPU's.

    Args:
        bench: what it runs on.
        name: name of the way.
        precision: of training and test.
        words: that choose the way.
        until: time of the monotonic clock at which it must be over.

    Raises:
        Failure: it does not end well, or its predictions are too far from the CPU's.
    """
    folder = bench.folder / re.sub(r"\W+", "-", name)
    fer(["train", *bench.words, *words, f"trainer.precision={precision}", run_folder(folder)], until)
    result = results.read(folder)
    if result is None:
        raise Failure(f"{folder} has no {results.RESULT}")
    evaluate_checkpoint.evaluate([folder / results.CHECKPOINT], [["trainer=cpu"]], directory=folder / "cpu")
    alike = reference(bench, precision, until)
    seen = {
        "minival_macro_recall": result.minival_macro_recall,
        "same_weights": apart(folder, folder / "cpu"),
        "same_training": apart(folder, alike),
    }
    limits = {"same_weights": FARTHEST[precision], "same_training": FARTHEST_TRAINED.get(precision, 1.0)}
    for key, limit in limits.items():
        if not seen[key] <= limit:  # nor if it is not a number
            raise Failure(
                f"predictions are {seen[key]:.2g} from the CPU's, {key.replace('_', ' ')}, not {limit:g}"
            )
    return seen


def reference(bench: Bench, precision: str, until: float) -> Path:
    """Return the folder of the same run trained on the CPU, in float64 or else in float32; it is trained once."""
    exact = FLOAT64 if precision == FLOAT64 else FLOAT32
    folder = bench.folder / f"reference-{exact}"
    if results.read(folder) is None:
        fer(
            ["train", *bench.words, "trainer=cpu", f"trainer.precision={exact}", run_folder(folder)],
            until,
        )
    return folder


def apart(folder: Path, other: Path) -> float:
    """Return the largest difference of a probability between two runs' predictions of the same pictures."""
    here, there = (parquet.read_table(run / results.PREDICTIONS) for run in (folder, other))
    if not here["id"].equals(there["id"]):
        raise Failure(f"{folder} and {other} were not tested on the same pictures")
    names = [name for name in here.column_names if name.startswith("p_")]
    p, q = (np.stack([table[name].to_numpy() for name in names]) for table in (here, there))
    return float(np.abs(p - q).max())


def compiled(bench: Bench, words: Sequence[str], until: float) -> dict[str, Any]:
    """Train with torch.compile.

    Raises:
        Skip: this is a dry run.
    """
    if not bench.gpus:
        raise Skip("compiling for the CPU takes minutes")
    return way(bench, "torch.compile", BF16, words, until)


def ranks(
    bench: Bench, name: str, precision: str, words: Sequence[str], devices: int, until: float
) -> dict[str, Any]:
    """Train in ``devices`` ranks.

    Raises:
        Skip: there are fewer GPUs.
    """
    if 0 < bench.gpus < devices:
        raise Skip(f"this machine shows {bench.gpus} GPU")
    return way(bench, name, precision, words, until)


class Lease(NamedTuple):
    """The GPU that a run had, and when."""

    gpu: str
    begin: float
    end: float


def leases(bench: Bench, until: float) -> dict[str, Any]:
    """Train three runs, two at a time, of which no two may have the same GPU at a time.

    In a dry run the GPUs are those of a made-up listing.

    Raises:
        Failure: they had, or a run did not end well.
    """
    folder = bench.folder / "leases"
    words = [*bench.words, "seed=0,1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    words.append(f"hydra.sweep.dir={quoted(folder)}")
    if bench.gpus:
        fer(["train", "-m", "trainer=gpu", *words], until)
    else:
        python([str(HERE / "leased_sweep.py"), *words], until, PATH=_made_up_gpus(bench.folder))
    held = sorted(map(lease, folder.glob(f"*/{results.RESULT}")), key=lambda lease: lease.begin)
    if len(held) != 3:
        raise Failure(f"{len(held)} of 3 runs are complete")
    for earlier, later in combinations(held, 2):
        if earlier.gpu == later.gpu and later.begin < earlier.end:
            raise Failure(f"two runs at a time had {later.gpu}")
    most = max(sum(other.begin <= one.begin < other.end for other in held) for one in held)
    return {"runs": 3, "gpus": len({one.gpu for one in held}), "at_a_time": most}


def _made_up_gpus(folder: Path) -> str:
    """Return a PATH whose nvidia-smi lists two GPUs that no machine has."""
    program = folder / "made-up" / "nvidia-smi"
    program.parent.mkdir()
    listing = "".join(f"echo 'GPU {number}: made up (UUID: GPU-{uuid.uuid4()})'\n" for number in range(2))
    program.write_text(f"#!/bin/sh\n{listing}", encoding="utf-8")
    program.chmod(0o755)
    return f"{program.parent}{os.pathsep}{os.environ['PATH']}"


def lease(result: Path) -> Lease:
    """Return which GPU the run of a result had, as its log says, and from when to when at least."""
    log = (result.parent / results.LOG).read_text(encoding="utf-8")
    gpus = re.findall(r"^on GPU (\S+)$", log, re.MULTILINE)
    told = results.read(result.parent)
    if len(gpus) != 1 or "," in gpus[0] or told is None:
        raise Failure(f"{result.parent.name} leased {len(gpus)} times, and not one GPU once", log)
    end = result.stat().st_mtime
    return Lease(gpus[0], end - told.seconds, end)


def throughput(bench: Bench, until: float) -> dict[str, Any]:
    """Measure training against a bare loop, as ``make bench-gpu`` does."""
    words = []
    if not bench.gpus:
        words = ["--device", "cpu", "--backbone", "resnet18", "--size", "32", "--batch", "8"]
        words += ["--steps", "2", "--rounds", "1"]
    told = json.loads(python([str(HERE / "throughput.py"), *words], until))
    return {
        "images_a_second": told["fer_lightning_images_per_second"],
        "bare_loop": told["bare_loop_images_per_second"],
        "ratio": told["ratio"],
        "backbone": told["backbone"],
    }


def gpu_tests(bench: Bench, until: float) -> dict[str, Any]:
    """Run the tests that need a GPU.

    Raises:
        Skip: they are not here or cannot run.
        Failure: a test failed, or was skipped where there is a GPU.
    """
    if find_spec("pytest") is None:
        raise Skip("pip install 'fer-lightning[dev]' first")
    mark = "mark.gpu"
    files = [str(path) for path in sorted(TESTS.rglob("test_*.py")) if mark in path.read_text(encoding="utf-8")]
    printed = python(["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *files], until, TESTS.parent)
    counts = {outcome: int(count) for count, outcome in re.findall(r"(\d+) (passed|skipped)", printed)}
    if not bench.gpus and not counts.get("passed"):
        raise Skip(f"{counts.get('skipped', 0)} tests need a GPU")
    if "passed" not in counts or "skipped" in counts:
        raise Failure(f"{counts.get('skipped', 0)} tests were skipped", printed[-3000:])
    return counts
