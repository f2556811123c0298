"""How often one method would be told from itself: many seeds of ONE setting, split at random into groups of five.

    python experiments/benchmarks/equal_methods.py runs/many_seeds --out experiments/benchmarks/equal_methods.json

FOLDER holds the runs of one setting, say 40 seeds. In every split the groups are compared two by two, as rows of
a table are, over seeds and test images; every difference that is called decided is a mistake. Beside it: the same
by Student's t over the seeds alone, and McNemar's test between two of the checkpoints, which differ indeed.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from telling import tell

from fer_lightning.core.errors import UserError
from fer_lightning.tables.analysis.predictions import AS_TRAINED, Pictures
from fer_lightning.tables.analysis.rows import Row, load
from fer_lightning.tables.analysis.statistics import FloatArray, IntArray, estimate, mcnemar

GROUP = 5


def only_row(folder: Path) -> tuple[Row, Pictures]:
    """The setting of a folder, which must be one, with seeds enough and predictions."""
    rows = [row for row in load(folder).rows if row.posthoc is None]
    if len(rows) != 1:
        raise UserError(f"{folder}: holds {len(rows)} settings; give the seeds of one")
    row = rows[0]
    if len(row.seeds) < 2 * GROUP or row.pictures is None:
        raise UserError(f"{folder}: needs {2 * GROUP} seeds and all their predictions, has {len(row.seeds)} seeds")
    return row, row.pictures


def p_values(
    values: FloatArray, influences: FloatArray, labels: IntArray, order: IntArray
) -> tuple[list[float], list[float]]:
    """Of the comparisons of a split, one by one: over seeds and images, and over the seeds alone."""
    groups = order[: len(order) // (2 * GROUP) * 2 * GROUP].reshape(-1, 2, GROUP)
    both, seeds = [], []
    for first, second in groups:
        gap = values[first] - values[second]
        both.append(estimate(gap, influences[first] - influences[second], labels).p_value())
        seeds.append(estimate(gap).p_value())
    return both, seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    options = parser.parse_args()
    row, pictures = only_row(options.folder)
    count = len(row.seeds)
    values = row.values["macro_recall"]
    influences = pictures.influences("macro_recall", range(count))
    assert influences is not None
    random = np.random.default_rng(0)
    found = [
        p_values(values, influences, pictures.labels, random.permutation(count)) for _ in range(options.splits)
    ]
    both, seeds = np.array(found).transpose(1, 0, 2)
    right = pictures.predictions[AS_TRAINED] == pictures.labels
    pairs = [mcnemar(right[a], right[b]).p for a, b in itertools.combinations(range(count), 2)]
    told = {
        "setting": row.method,
        "seeds": count,
        "test_images": len(pictures.labels),
        "macro_recall": {"mean": values.mean(), "std": values.std(ddof=1)},
        "splits": options.splits,
        "comparisons_a_split": both.shape[1],
        "called_different": {
            "seeds and images": (both < 0.05).mean(),
            "any of a split's, after Bonferroni": np.mean(both.min(1) * both.shape[1] < 0.05),
            "seeds alone": (seeds < 0.05).mean(),
            "McNemar, two checkpoints": np.mean(np.array(pairs) < 0.05),
        },
    }
    tell(told, options.out)


if __name__ == "__main__":
    main()
