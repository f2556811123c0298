"""What a launcher adds to each run of a sweep: SLURM's array beside as many joblib jobs.

    tests/slurm/private_slurm.sh .venv/bin/python experiments/benchmarks/launchers.py \
        data.rows=800 data.test_per_class=20 backbone.people=20 backbone.pictures=8 \
        [--runs 40] [--at-a-time 4] [--repeats 1] [--out experiments/benchmarks/launchers.json]

The same quick runs (one epoch over embeddings of drawn faces) by each launcher in turn, each time in a new folder.
Faces and embeddings are prepared before. The overhead of a run is the time in which a place for a run was free:
(seconds of the command x places - seconds of all runs) / runs. It holds the start of the command,
planning, the queue, the start of Python, and the wait for the last runs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from telling import tell

from fer_lightning.evaluation import results

QUICK = ["data=synthetic", "backbone=tiny", "stage=feature_extraction", "stage.epochs=1", "neck=identity"]
WAYS = {
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs={places}"],
    "SLURM array": [
        *("hydra/launcher=submitit_slurm", "hydra.launcher.array_parallelism={places}"),
        *("hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=10"),
    ],
}


def sweep(words: list[str], folder: Path) -> tuple[float, list[float]]:
    """Run a sweep; return the seconds of the command, and those of each of its runs."""
    command = [sys.executable, "-m", "fer_lightning", "train", "-m", *words, f"hydra.sweep.dir={folder}"]
    begin = time.monotonic()
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    seconds = time.monotonic() - begin
    if ended.returncode:
        raise SystemExit(f"launchers: {' '.join(command)}:\n{ended.stdout}{ended.stderr}")
    done = [results.read(file.parent) for file in sorted(folder.rglob(results.RESULT))]
    return seconds, [result.seconds for result in done if result is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--at-a-time", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS])
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    parser.add_argument("overrides", nargs="*", help="of all runs, for a dry run")
    options = parser.parse_intermixed_args()
    quick = [*QUICK, *options.overrides]
    commands: dict[str, list[float]] = {way: [] for way in options.ways}
    overheads: dict[str, list[float]] = {way: [] for way in options.ways}
    with tempfile.TemporaryDirectory() as folder:
        sweep([*quick, "seed=0"], Path(folder) / "prepared")
        seeds = f"seed={','.join(map(str, range(1, options.runs + 1)))}"
        for repeat in range(options.repeats):
            for way in options.ways:
                launcher = [word.format(places=options.at_a_time) for word in WAYS[way]]
                seconds, runs = sweep(
                    [*quick, seeds, *launcher], Path(folder) / f"{way} {repeat}".replace(" ", "-")
                )
                if len(runs) != options.runs:
                    raise SystemExit(f"launchers: {way}: {len(runs)} of {options.runs} runs")
                commands[way].append(round(seconds, 1))
                overheads[way].append((seconds * options.at_a_time - sum(runs)) / options.runs)
    told = {
        "runs": options.runs,
        "at_a_time": options.at_a_time,
        "seconds": commands,
        "overhead_of_a_run": {way: round(statistics.median(found), 2) for way, found in overheads.items()},
        "ratio": round(
            statistics.median(commands[options.ways[-1]]) / statistics.median(commands[options.ways[0]]), 2
        ),
    }
    tell(told, options.out)


if __name__ == "__main__":
    main()
