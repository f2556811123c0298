"""Every way of running on a GPU, tried on drawn faces in ten minutes at most; nothing is downloaded.

    make smoke-gpu                                            # writes runs/smoke-gpu.json, too
    python experiments/benchmarks/smoke_gpu.py --device cpu   # a dry run: on the CPU, at the smallest size

Each row is a check: ok, failed, or skipped with the reason. All runs train the same two stages with weighted
cluster loss. Their rows tell the macro recall on the minival, and two differences of test predictions, the
largest of any probability: from those that the CPU computes in float32 with the same weights, and from those after
the same training on the CPU in float32 (in float64, if the run is). A check that fails does not stop the others;
the exit code is 1 in the end. --out is written after each check, so that it also tells what an interrupted command
saw.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from smoke_checks import Bench, Check, checks
from smoke_commands import Failure, Skip
from telling import machine

from fer_lightning.core.errors import in_words
from fer_lightning.core.files import write_atomic
from fer_lightning.core.progress import duration

LIMIT = 600.0
"""Seconds of all checks together."""


def attempt(check: Check, left: float) -> dict[str, Any]:
    """Make a check, and return its row, whatever happens.

    Args:
        check: what to do.
        left: seconds until all checks must be over.
    """
    begin, limit = time.monotonic(), min(check.seconds, left)
    row: dict[str, Any] = {"check": check.name}
    try:
        if left <= 0:
            raise Skip("no time is left")
        row |= {"outcome": "ok", **check.see(begin + limit)}
    except Skip as reason:
        row |= {"outcome": "skipped", "reason": str(reason)}
    except subprocess.TimeoutExpired as error:
        printed = error.stdout or b""
        log = printed if isinstance(printed, str) else printed.decode(errors="replace")
        row |= {"outcome": "failed", "reason": f"not done after {limit:.0f} s", "log": log[-3000:]}
    except Failure as failure:
        row |= {"outcome": "failed", "reason": str(failure), "log": failure.log}
    except Exception as error:  # one check that fails does not stop the others
        row |= {"outcome": "failed", "reason": in_words(error)}
    return row | {"seconds": round(time.monotonic() - begin, 1)}


def in_a_line(row: Mapping[str, Any]) -> str:
    """Return a row's outcome for a person to read; its name stands there already."""
    if row["outcome"] == "ok":
        numbers = {key: value for key, value in row.items() if key not in ("check", "outcome", "seconds")}
        texts = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in numbers.values()]
        seen = ", ".join(f"{key.replace('_', ' ')} {text}" for key, text in zip(numbers, texts, strict=True))
    else:
        seen = row["reason"]
    return f"{row['outcome']:<8}{row['seconds']:>6.1f} s   {seen}"


def driver() -> dict[str, Any]:
    """Return the chips and the driver, which are not asked through CUDA: it would take memory of a GPU."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return {"chips": [], "driver": "unknown"}
    fields = [[field.strip() for field in line.split(",")] for line in listed if line.count(",") == 1]
    return {"chips": [name for name, _ in fields], "driver": fields[0][1] if fields else "unknown"}


def facts(device: str, gpus: int) -> dict[str, Any]:
    """Return what the checks were made with."""
    found = {"device": device, "gpus": gpus, **machine()}
    if device == "cuda":
        versions = {"cuda": torch.version.cuda, "nccl": ".".join(map(str, torch.cuda.nccl.version()))}
        found |= {**driver(), **versions}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--only", nargs="+", default=[""], help="checks whose names contain one of these texts")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of all checks together")
    parser.add_argument("--out", type=Path, help="write the table here as JSON")
    parser.add_argument("--override", action="append", default=[], help="a word for all runs, such as loss=center")
    options = parser.parse_args()
    gpus = torch.cuda.device_count() if options.device == "cuda" and torch.cuda.is_available() else 0
    if options.device == "cuda" and not gpus:
        raise SystemExit(
            f"smoke: torch {torch.__version__} sees no CUDA device here; --device cpu makes a dry run: every "
            "check on the CPU, at the smallest size"
        )
    folder = Path(tempfile.mkdtemp(prefix="fer-smoke-"))
    own = {"FER_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    failed = True
    try:
        with mock.patch.dict(os.environ, own):
            os.environ.pop("SLURM_JOB_ID", None)  # leases are for machines without SLURM, and are tried here, too
            failed = run(Bench(gpus, folder, options.override), options)
    finally:
        if failed:
            print(f"runs and logs: {folder}")
        else:
            shutil.rmtree(folder)
    return 1 if failed else 0


def run(bench: Bench, options: argparse.Namespace) -> bool:
    """Make the checks, and print and write their rows as they come. Return whether one failed."""
    begin = time.monotonic()
    todo = [check for check in checks(bench) if any(text in check.name for text in options.only)]
    told: dict[str, Any] = {**facts(options.device, bench.gpus), "checks": []}
    where = f"GPUs: {bench.gpus}" if bench.gpus else "a dry run on the CPU"
    where += "".join(f", {name}" for name in dict.fromkeys(told.get("chips", [])))
    print(f"{len(todo)} checks, {duration(options.limit)} at most: {where}")
    for number, check in enumerate(todo, 1):
        left = options.limit - (time.monotonic() - begin)
        at_most = f"{number:>2}/{len(todo)}, at most {max(0, left):3.0f} s left"
        print(f"[{at_most}] {check.name:<28}", end=" ", flush=True)
        row = attempt(check, left)
        print(in_a_line(row), flush=True)
        told["checks"].append(row)
        if options.out:
            write_atomic(options.out, json.dumps(told, indent=2) + "\n")
    outcomes = [row["outcome"] for row in told["checks"]]
    print(", ".join(f"{outcomes.count(name)} {name}" for name in ("ok", "failed", "skipped")))
    return "failed" in outcomes


if __name__ == "__main__":
    raise SystemExit(main())
