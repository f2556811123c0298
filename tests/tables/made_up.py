"""Folders of made-up runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from scipy.special import ndtri

from fer_lightning.config import identity
from fer_lightning.evaluation import results
from fer_lightning.evaluation.metrics import METRICS

CLASSES = ["neutral", "happy", "fear"]
PROTOCOL = {
    "data": "made up",
    "classes": CLASSES,
    "manifest": "a" * 64,
    "size": 64,
    "backbone": "tiny",
    "backbone_weights": "0123456789abcdef",
    "numerics": identity.NUMERICS,
}


def config(loss: str = "softmax", class_weights: str = "none", seed: int = 0, /, **groups: Any) -> dict[str, Any]:
    """A resolved config, with as much in it as a table reads."""
    return {
        "seed": seed,
        "loss": {"_target_": f"losses.{loss}"},
        "class_weights": {"_target_": class_weights},
        "stage": {"epochs": 3, "fine_tuning": {"epochs": 3, "lr_scale": 1.0}},
        "backbone": {"weights": "/somewhere/weights.pt", "size": 64},
        "logger": {"_target_": "csv"},
        "choices": {
            "loss": loss,
            "class_weights": class_weights,
            "stage": "two_stage",
            "backbone": "tiny",
            "data": "made_up",
            "sampler": "shuffle",
            "logger": "csv",
        },
        **groups,
    }


def result(recall: float, said: dict[str, Any], **other: Any) -> dict[str, Any]:
    """A result whose macro recall is ``recall``, the other metrics a little beside it."""
    return {
        "metrics": {name: recall + 0.01 * (k - 1) for k, name in enumerate(METRICS)},
        "per_class_recall": {"neutral": recall + 0.1, "happy": recall, "fear": recall - 0.1},
        "confusion": [[80, 10, 10], [20, 70, 10], [10, 10, 20]],
        "classes": CLASSES,
        "protocol": PROTOCOL,
        "provenance": {
            "versions": {"python": "3.12.1", "torch": "2.11.0"},
            "machine": {"processor": "CPU X", "device": "cpu", "threads": 1},
            "paths": {"data": "/home/someone/data"},
        },
        "data": {
            "train": {"neutral": 1234, "happy": 500, "fear": 40},
            "dropped_leaks": {"neutral": 5, "fear": 2},
            "set_aside": 3,
        },
        "config": said,
        "seed": said["seed"],
        "seconds": 100.0,
        **other,
    }


def stage(history: list[dict[str, float]], name: str = "fine_tuning") -> dict[str, Any]:
    """A stage of a result, of which the first epoch was kept."""
    score = {"best_epoch": 0, "minival_macro_recall": 0.5, "seconds": 1.0}
    return {"name": name, "epochs": len(history), **score, "history": history}


def corrected(recall: float) -> dict[str, Any]:
    """The columns of a result after each correction; logit adjustment adds 0.05, the others nothing."""
    plain = result(recall, config())
    shown = {key: plain[key] for key in ("metrics", "per_class_recall", "confusion")}
    adjusted = {key: result(recall + 0.05, config())[key] for key in shown}
    return {
        "logit_adjustment": {"tau": 1.1, **adjusted},
        "tau_norm": {"tau": 0.2, **shown},
        "temperature": {"temperature": 1.5, **shown},
    }


def put(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Write a run."""
    (folder / name).mkdir(parents=True)
    (folder / name / results.RESULT).write_text(json.dumps(content))


def fill(folder: Path, rows: dict[tuple[str, str], list[float]]) -> None:
    """A run for each (loss, class weights) and seed, with the macro recall given."""
    for (loss, weights), values in rows.items():
        for seed, value in enumerate(values):
            put(folder, f"{loss}-{weights}-s{seed}", result(value, config(loss, weights, seed)))


def declare(
    folder: Path, rows: list[tuple[str, str, str]], protocol: dict[str, Any] = PROTOCOL, /, **other: Any
) -> None:
    """Write table.json for rows of (method, loss, class weights)."""
    settings = [identity.setting(config(*row[1:]), protocol) for row in rows]
    told = {
        "title": "A made-up table",
        "notes": ["Lambda is untuned."],
        "substitute": None,
        "rows": [
            {"method": name, "abstract": loss != "softmax", "overrides": [f"loss={loss}"], "settings": [key]}
            for (name, loss, _), key in zip(rows, settings, strict=True)
        ],
        "seeds": [0, 1, 2],
        "metrics": ["accuracy", "macro_recall", "macro_f1", "cohen_kappa"],
        **other,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.json").write_text(json.dumps(told))


SEVEN = [
    ("softmax", "softmax", "none"),
    ("weighted softmax", "softmax", "min_over_count"),
    ("center", "center", "none"),
    ("weighted center", "center", "min_over_count"),
    ("cluster", "cluster", "none"),
    ("weighted cluster", "cluster", "min_over_count"),
    ("weighted cluster, exact centers", "exact", "min_over_count"),
]


def seven_rows(folder: Path, spread: float = 0.01) -> None:
    """Seven methods by three seeds, as the shipped table has them."""
    draw = np.random.default_rng(4)
    for k, (_, loss, weights) in enumerate(SEVEN):
        for seed in range(3):
            value = 0.6 + 0.008 * k + spread * draw.standard_normal()
            put(folder, f"{loss}-{weights}-s{seed}", result(value, config(loss, weights, seed)))
    declare(folder, SEVEN)


def predicted(
    folder: Path,
    name: str,
    said: dict[str, Any],
    labels: np.ndarray,
    predictions: np.ndarray,
    *,
    ids: list[str] | None = None,
    after: dict[str, np.ndarray] | None = None,
    **other: Any,
) -> None:
    """Write a run with its predictions, class indices (n,), and the metrics that follow from them.

    Args:
        folder: of the runs.
        name: of the run's own.
        said: its config.
        labels: (n,) class indices.
        predictions: (n,) class indices.
        ids: of the pictures; none: by their place.
        after: predictions after a correction.
        other: further keys of result.json.
    """
    metrics = {"auroc": 0.9, "average_precision": 0.8, "ece": 0.1}
    of_confusion = {name: metric.of_confusion for name, metric in METRICS.items() if metric.of_confusion}

    def numbers(answers: np.ndarray) -> dict[str, Any]:
        counts = np.zeros((len(CLASSES), len(CLASSES)), dtype=int)
        np.add.at(counts, (labels, answers), 1)
        recall = np.diag(counts) / counts.sum(1)
        return {
            "metrics": metrics | {key: float(metric(counts)) for key, metric in of_confusion.items()},
            "per_class_recall": dict(zip(CLASSES, recall.tolist(), strict=True)),
            "confusion": counts.tolist(),
        }

    after = after or {}
    columns = {key: {"tau": 1.0, **numbers(answers)} for key, answers in after.items()}
    put(folder, name, result(0.0, said, **numbers(predictions), posthoc=columns, **other))
    names = np.array(CLASSES)
    told = {"id": ids or [f"{place:05}" for place in range(len(labels))], "label": names[labels]}
    told |= {"prediction": names[predictions]}
    told |= {f"prediction_{key}": names[answers] for key, answers in after.items()}
    parquet.write_table(pa.table(told), folder / name / results.PREDICTIONS)


LABELS = np.repeat(np.arange(3), (120, 60, 20))


def answers(random: np.random.Generator, recall: float, seeds: int, difficulty: np.ndarray) -> np.ndarray:
    """Predictions (S, n) for LABELS: right where chance and the picture's difficulty (n,) allow it."""
    chance = random.standard_normal((seeds, len(LABELS))) + random.normal(0, 0.1, (seeds, 1))
    right = chance + difficulty < np.sqrt(2) * ndtri(recall)
    return np.where(right, LABELS, (LABELS + 1) % 3)


def answering(folder: Path, rows: dict[tuple[str, str], float], seeds: int = 5) -> None:
    """A run with predictions for each (loss, class weights) and seed, with about the recall given."""
    random = np.random.default_rng(7)
    difficulty = random.standard_normal(len(LABELS))
    for (loss, weights), recall in rows.items():
        for seed, one in enumerate(answers(random, recall, seeds, difficulty)):
            predicted(folder, f"{loss}-{weights}-s{seed}", config(loss, weights, seed), LABELS, one)
