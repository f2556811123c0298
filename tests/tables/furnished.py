"""Made-up runs with all that a run leaves: histories, predictions, embeddings, geometry."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
from made_up import PROTOCOL, SEVEN, config, corrected, declare, put, result
from pyarrow import parquet

from fer_lightning.core.files import locked
from fer_lightning.evaluation import results
from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.tables.analysis.rows import load
from fer_lightning.tables.output.page import embedding, page

CLASSES = ["neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt"]
COUNTS = [2794, 5005, 956, 529, 239, 143, 934, 140]
WITH_CENTERS = {"center", "cluster", "exact"}
EIGHT = [*SEVEN[:1], ("softmax + logit adjustment after training", "softmax", "none"), *SEVEN[1:]]


def embedded(
    labels: np.ndarray, pull: float, random: np.random.Generator, dim: int = 16
) -> tuple[np.ndarray, ...]:
    """Embeddings (N, D) of classes on a simplex, their spread smaller with ``pull``, and the true means (C, D)."""
    means = np.random.default_rng(5).standard_normal((len(CLASSES), dim)) * 0.62
    return means[labels] + random.standard_normal((len(labels), dim)) * (1.25 - pull), means


def scored(labels: np.ndarray, probabilities: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """The keys of a result that follow from the predictions."""
    count = len(classes)
    confusion = np.zeros((count, count), int)
    np.add.at(confusion, (labels, probabilities.argmax(1)), 1)
    sizes = confusion.sum(1)
    recall = [float(confusion[k, k] / n) if n else None for k, n in enumerate(sizes)]
    metrics = {name: 0.5 + 0.01 * k for k, name in enumerate(METRICS)}
    metrics["macro_recall"] = float(np.mean([r for r in recall if r is not None]))
    metrics["accuracy"] = float(confusion.trace() / confusion.sum())
    return {
        "metrics": metrics,
        "per_class_recall": dict(zip(classes, recall, strict=True)),
        "confusion": confusion.tolist(),
        "classes": classes,
    }


def history(epochs: int, level: float, *, centers: bool, last: bool, random: np.random.Generator) -> list[dict]:
    """Scalars after each epoch, as a stage writes them down."""
    told = []
    for k in range(epochs):
        rise = 1 - np.exp(-(k + 1) / 3) if not last else 0.94 + 0.02 * k
        entropy, term = 1.9 - 1.2 * rise + 0.03 * random.standard_normal(), 0.5 - 0.3 * rise
        recall = level * (0.5 + 0.5 * rise) + 0.008 * random.standard_normal()
        one = {
            "train/loss": entropy + term * centers,
            "train/cross_entropy": entropy,
            "minival/macro_recall": recall,
            "minival/accuracy": recall + 0.02,
            "minival/loss": entropy + 0.1,
            "lr/head": 1e-3,
            "grad_norm/head": 1.0,
            "images_per_second": 2000.0,
            "waiting_share": 0.02,
        }
        if centers:
            one["train/center_term"] = term
            for c, name in enumerate(CLASSES):
                one[f"center_drift/{name}"] = 0.1 + 0.05 * c * rise
                one[f"center_spread/{name}"] = 20 + 3 * c + 10 * rise
        if last:
            one["test/macro_recall"] = recall - 0.01 + 0.01 * random.standard_normal()
            one["test/accuracy"] = recall
        told.append(one)
    return told


def stages_of(level: float, centers: bool, random: np.random.Generator) -> list[dict[str, Any]]:
    """Two stages, the last one's test recall about ``level``."""
    return [
        {
            "name": stage,
            "epochs": epochs,
            "best_epoch": epochs - 2,
            "minival_macro_recall": level,
            "seconds": 10.0,
            "shared": k == 0,
            "history": history(epochs, level, centers=centers and k == 1, last=k == 1, random=random),
        }
        for k, (stage, epochs) in enumerate([("feature_extraction", 8), ("fine_tuning", 3)])
    ]


def furnish(folder: Path, name: str, said: dict[str, Any], level: float, images: int, **other: Any) -> None:
    """Write a run whose macro recall is about ``level``, with everything in its folder."""
    random = np.random.default_rng([said["seed"], int(1000 * level)])
    labels = np.repeat(np.arange(len(CLASSES)), images // len(CLASSES))
    centers = said["choices"]["loss"] in WITH_CENTERS
    points, means = embedded(labels, 0.25 if centers else 0.1, random)
    logits = -0.5 * ((points[:, None] - means) ** 2).sum(2) * level
    logits += 0.9 * (1 - level) * np.log(COUNTS)
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    measured = scored(labels, probabilities, CLASSES)
    own = np.stack([points[labels == k].mean(0) for k in range(len(CLASSES))])
    spread = {
        c: float(np.sqrt(((points[labels == k] - own[k]) ** 2).sum(1).mean())) for k, c in enumerate(CLASSES)
    }
    distances = np.linalg.norm(own[:, None] - own, axis=2)
    made = {
        **measured,
        "stages": stages_of(measured["metrics"]["macro_recall"], centers, random),
        "geometry": {"within": spread, "between": distances.tolist()},
        "posthoc": {
            correction: {**column, **{k: v for k, v in measured.items() if k != "classes"}}
            for correction, column in corrected(level).items()
        },
        "protocol": {**PROTOCOL, "classes": CLASSES},
        "data": {"train": dict(zip(CLASSES, COUNTS, strict=True)), "redistributable": False},
        **other,
    }
    put(folder, name, result(level, said, **made))
    names = np.array(CLASSES)
    columns = {
        "id": [f"secret/{k:05d}.jpg" for k in range(len(labels))],
        "label": names[labels],
        "prediction": names[probabilities.argmax(1)],
        **{f"p_{c}": probabilities[:, k] for k, c in enumerate(CLASSES)},
    }
    parquet.write_table(pa.table(columns), folder / name / results.PREDICTIONS)
    kept = np.linspace(0, len(labels) - 1, min(1000, len(labels))).astype(int)
    arrays = {
        "embeddings": points[kept].astype(np.float16),
        "labels": labels[kept],
        "ids": np.array(columns["id"])[kept],
        "predictions": probabilities.argmax(1)[kept],
        "class_means": own.astype(np.float32),
    }
    if centers:
        arrays["centers"] = (own + 0.2 * random.standard_normal(own.shape)).astype(np.float32)
    np.savez(folder / name / "embeddings.npz", **arrays)


def furnished(folder: Path, rows: list[tuple[str, str, str]] = EIGHT, seeds: int = 3, images: int = 240) -> None:
    """Rows of (method, loss, class weights) by some seeds, and table.json with a search."""
    for k, (_, loss, weights) in enumerate(dict.fromkeys((None, *row[1:]) for row in rows)):
        for seed in range(seeds):
            furnish(
                folder,
                f"c{k}-{loss}-{weights}-s{seed}",
                config(loss, weights, seed),
                0.55 + 0.2 * k / len(rows),
                images,
            )
    rates = [0.001, 0.01, 0.1]
    search = [
        {
            "method": name,
            "keys": ["optimizer.lr", "loss.weight"] if loss in WITH_CENTERS else ["optimizer.lr"],
            "points": [[rate, rate / 2] if loss in WITH_CENTERS else [rate] for rate in rates],
            "scores": [[0.5 + 0.02 * k, 0.51 + 0.02 * k] for k in range(3)],
            "chosen": 2,
            "edge": ["optimizer.lr", "loss.weight"] if loss in WITH_CENTERS else ["optimizer.lr"],
            "second": 0.02,
        }
        for name, loss, _ in rows
    ]
    protocol = {**PROTOCOL, "classes": CLASSES}
    declare(
        folder, rows, protocol, search=search, command="fer table run made_up seed=0", seeds=list(range(seeds))
    )
    told = json.loads((folder / "table.json").read_text())
    for row in told["rows"]:
        if "logit adjustment" in row["method"]:
            row["posthoc"] = "logit_adjustment"
    told["contrasts"] = [[rows[-1][0], rows[0][0]]]
    (folder / "table.json").write_text(json.dumps(told))


def placed_at_once(points: np.ndarray) -> np.ndarray:
    """In place of t-SNE, which takes most of the time of a report: two directions, spread over the plane."""
    return 10 * points[:, :2]


def reported() -> tuple[Path, list[Path]]:
    """Eight rows by two seeds and the files of their report, to be read only: made once for all workers."""
    folder = Path(os.environ["FER_CACHE"]).parent / "furnished"
    told = folder / "written.json"
    with locked(folder):
        if not told.exists():
            shutil.rmtree(folder, ignore_errors=True)
            furnished(folder, seeds=2, images=160)
            with mock.patch.object(embedding, "_tsne", placed_at_once):
                written = page.write(load(folder), folder / "out")
            told.write_text(json.dumps([str(path) for path in written]))
        return folder, [Path(path) for path in json.loads(told.read_text())]
