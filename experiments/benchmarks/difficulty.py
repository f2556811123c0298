"""How hard the drawn faces are: balanced and imbalanced training with plain softmax, and a linear model on pixels.

    python experiments/benchmarks/difficulty.py [--out experiments/results/difficulty.json]

The intensity of the action units (data.intensity) was set from these numbers alone, before any other loss was run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score

from fer_lightning.config.compose import compose
from fer_lightning.core.files import write_atomic
from fer_lightning.data import dataset
from fer_lightning.data.store.store import StoreSplit
from fer_lightning.tables import plan

SEEDS = (0, 1, 2)
PROPORTIONS = ("uniform", "affectnet")


def pixels(split: StoreSplit) -> np.ndarray:
    """Grey pictures (N, size * size), each with mean 0 and standard deviation 1."""
    grey = np.stack([split.image(i).mean(axis=2).ravel() for i in range(len(split))])
    return (grey - grey.mean(1, keepdims=True)) / grey.std(1, keepdims=True)


def linear(overrides: list[str]) -> float:
    """Macro recall of multinomial logistic regression on grey pixels."""
    store = dataset.store(compose(overrides))
    train, test = store.split("train"), store.split("test")
    model = LogisticRegression(C=1e-3, max_iter=200).fit(pixels(train), train.labels)
    return float(recall_score(test.labels, model.predict(pixels(test)), average="macro"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/difficulty"))
    parser.add_argument("--out", type=Path, default=Path("experiments/results/difficulty.json"))
    options = parser.parse_args()
    embedded = plan.load("embedded")
    overrides = [*embedded.overrides, *embedded.rows[0].overrides]
    told: dict[str, dict[str, object]] = {}
    for proportions in PROPORTIONS:
        folder = options.runs / proportions
        words = [*overrides, f"data.proportions={proportions}", f"seed={','.join(map(str, SEEDS))}"]
        subprocess.run([sys.executable, "-m", "fer_lightning", "train", "-m", *words, f"hydra.sweep.dir={folder}"])
        found = [json.loads(path.read_text()) for path in sorted(folder.glob("*/result.json"))]
        recalls = [result["metrics"]["macro_recall"] for result in found]
        told[proportions] = {
            "macro_recall": recalls,
            "mean": statistics.mean(recalls),
            "linear_model_on_pixels": linear([*overrides, f"data.proportions={proportions}"]),
        }
    write_atomic(options.out, json.dumps({"overrides": overrides, **told}, indent=2) + "\n")
    print(options.out.read_text())


if __name__ == "__main__":
    main()
