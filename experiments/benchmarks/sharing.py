"""The embedded table's runs, as the table runs them, beside the same runs with nothing shared or cached.

    python experiments/benchmarks/sharing.py [--seeds 0 1 2] [--out experiments/benchmarks/sharing.json]

Each run is a process, one after another, as ``fer table run embedded --jobs 1`` starts them: forks of one that
has imported everything. Alone, a run imports everything itself and finds the prepared faces and the pre-trained
backbone, but neither a first stage nor embeddings: its frozen backbone runs in every epoch. The two ways alternate
run by run; the table's begins with nothing cached. How far apart their metrics are (float32, in another order)
is told, too.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from telling import tell

from fer_lightning.core.files import home
from fer_lightning.evaluation import results
from fer_lightning.run import launch
from fer_lightning.tables import plan

GIVEN = ("synthetic", "stores", "weights")
ALONE = ["stage.feature_extraction.cached=false"]


def new_cache(folder: Path) -> Path:
    """A cache that has the prepared faces and the pre-trained backbone of the user's own, and nothing else."""
    folder.mkdir(parents=True)
    for kind in GIVEN:
        (folder / kind).symlink_to(home().resolve() / kind)
    return folder


def run(words: list[str], directory: Path, cache: Path, *, forked: bool) -> dict[str, Any]:
    """Train one run. Returns seconds by what they went into, and the metrics."""
    directory.mkdir(parents=True)
    log, command = directory / results.LOG, ["--directory", str(directory), *words]
    begin = time.monotonic()
    if forked:
        launch.fork(command, log, FER_CACHE=str(cache)).wait()
    else:
        with log.open("w") as output:
            launch.child(command, output, FER_CACHE=str(cache)).wait()
    total = time.monotonic() - begin
    told = results.read(directory)
    if told is None:
        raise SystemExit(f"sharing: {log.read_text()}")
    first, second = (0.0 if stage.shared else stage.seconds for stage in told.stages)
    parts = {"start-up": total - told.seconds, "first stage": first, "second stage": second}
    parts["faces, embeddings, test"] = told.seconds - first - second
    return {"parts": parts, "total": total, "metrics": told.metrics}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", type=int, help="only so many rows of the table, for a dry run")
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    parser.add_argument("overrides", nargs="*", help="of all runs, for a dry run")
    options = parser.parse_intermixed_args()
    table = plan.load("embedded")
    ways: dict[str, list[dict[str, Any]]] = {"as the table runs them": [], "nothing shared or cached": []}
    with tempfile.TemporaryDirectory() as folder:
        given = [*table.overrides, *options.overrides]
        prepare = [sys.executable, "-m", "fer_lightning.run", "--protocol", f"{folder}/run.json", *given]
        subprocess.run(prepare, check=True, capture_output=True)
        common = new_cache(Path(folder) / "common")
        rows = list({tuple(row.overrides): row for row in reversed(table.rows)}.values())[::-1][: options.rows]
        for number, (seed, row) in enumerate((seed, row) for seed in options.seeds for row in rows):
            words = [*given, *row.overrides, f"seed={seed}"]
            place = Path(folder) / str(number)
            shared = run(words, place / "shared", common, forked=True)
            alone = run([*words, *ALONE], place / "alone", new_cache(place / "cache"), forked=False)
            for way, found in zip(ways.values(), (shared, alone), strict=True):
                way.append(found)
            print(f"{row.method}, seed {seed}: {shared['total']:.1f} s and {alone['total']:.1f} s", flush=True)
    sums = {
        way: {part: round(sum(one["parts"][part] for one in found), 1) for part in found[0]["parts"]}
        for way, found in ways.items()
    }
    totals = {way: sum(one["total"] for one in found) for way, found in ways.items()}
    shared, alone = ways.values()
    apart = [
        abs(a["metrics"]["macro_recall"] - b["metrics"]["macro_recall"])
        for a, b in zip(shared, alone, strict=True)
    ]
    told = {
        "runs": len(shared),
        "seconds": {way: {"all": round(totals[way], 1), **sums[way]} for way in ways},
        "ratio": round(totals["nothing shared or cached"] / totals["as the table runs them"], 2),
        "macro_recall_apart": {"median": statistics.median(apart), "largest": max(apart)},
    }
    tell(told, options.out)


if __name__ == "__main__":
    main()
