"""The test of a cell: every picture once on one device, corrections fitted on the minival, and result.json."""

from __future__ import annotations

import logging
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fer_lightning import metrics, posthoc, results
from fer_lightning.data.datamodule import as_it_is
from fer_lightning.features import (
    EmbeddingDataset,
    Pass,
    backbone_embeddings,
    center_drift,
    class_means,
    state_hash,
)
from fer_lightning.inference import Model
from fer_lightning.losses.center_term import CenterTermHead
from fer_lightning.losses.cluster import ClusterHead
from fer_lightning.losses.softmax import at_least_float32
from fer_lightning.models.network import Network
from fer_lightning.training import Cell, Training

log = logging.getLogger(__name__)


def logits(network: Network, cell: Cell, part: str) -> Tensor:
    """Logits (N, C) in float64: every picture once, on one device; with flip averaging its mirror image, too."""
    views = (False, True) if cell.data.flip_averaging else (False,)
    return torch.stack([_logits(network, cell, part, mirrored) for mirrored in views]).mean(0)


def _logits(network: Network, cell: Cell, part: str, mirrored: bool) -> Tensor:
    """Logits (N, C) of one view of the pictures; a frozen backbone's share of it is kept."""
    keep = state_hash(cell.how.place(network.backbone)) == cell.pretrained
    embeddings = backbone_embeddings(network.backbone, cell.data, part, cell.how, keep=keep, mirrored=mirrored)
    rest = cell.how.place(Network(nn.Identity(), network.neck, network.head)).eval()
    dataset = EmbeddingDataset([embeddings], torch.from_numpy(cell.data.labels(part)))
    batches = DataLoader(dataset, batch_size=4096, collate_fn=as_it_is)
    return cell.how.over(batches, lambda given: at_least_float32(rest(given).logits), part).double()


def corrected(model: Model, cell: Cell, tested: Tensor) -> tuple[dict[str, Any], list[str]]:
    """The columns of posthoc.py for test logits (N, C), or none and a notice that says why."""
    data, stats = cell.data, cell.stats
    if any(model.card["protocol"][key] != cell.protocol[key] for key in ("faces", "minival")):
        # another minival may hold pictures that this model was trained on, or be of another kind
        return {}, ["no post-hoc columns: the minival is not the one that the checkpoint was chosen by"]
    labels = data.labels("minival")
    held_out = np.bincount(labels, minlength=stats.num_classes)
    if lacking := [name for name, *n in zip(stats.names, held_out, stats.counts, strict=True) if min(n) == 0]:
        return {}, [f"no post-hoc columns: minival or training part have no picture of {', '.join(lacking)}"]
    fit_on = logits(model.network, cell, "minival"), torch.from_numpy(labels)
    test = tested, torch.from_numpy(data.labels("test"))
    return posthoc.columns(fit_on, test, stats, model.network.head), []


def watch_centers(training: Training, network: Network) -> dict[str, Any]:
    """Where the centers are after the last epoch: their drift by class and, for cluster loss, D_k."""
    head = network.head
    if not isinstance(head, CenterTermHead):
        return {}
    names = training.cell.stats.names
    embeddings, labels = training.train_embeddings(network)
    means = class_means(embeddings.double(), labels, len(names))
    centers = head.centers.detach().cpu().double()
    drift = center_drift(centers, means, embeddings.double().mean(0))
    told: dict[str, Any] = {"center_drift": dict(zip(names, drift.tolist(), strict=True))}
    if isinstance(head, ClusterHead):
        told["center_spread"] = dict(zip(names, head.spread(centers).tolist(), strict=True))
    return told


def finish(directory: Path, model: Model, cell: Cell, begin: float, extra: dict[str, Any]) -> dict[str, Any]:
    """Test a model and write the cell's predictions and result.json."""
    tested = logits(model.network, cell, "test")
    probabilities = tested.softmax(1)
    faces = cell.data.store.split("test")
    measured = metrics.evaluate(probabilities, torch.from_numpy(faces.labels), cell.data.store.classes)
    assert sum(map(sum, measured["confusion"])) == len(faces)
    columns, notices = corrected(model, cell, tested)
    for text in notices:
        log.warning("note: %s", text)
    meta = cell.data.store.meta
    result = {
        **measured,
        "posthoc": columns,
        "classes": list(meta.classes),
        "protocol": cell.protocol,
        "provenance": {
            "versions": results.versions(),
            "machine": {
                "processor": processor(),
                "device": _device(cell.how),
                "threads": torch.get_num_threads(),
            },
            "paths": {"data": cell.config["data"]["root"], "faces": str(cell.data.store.folder)},
        },
        "data": {
            "train": dict(zip(cell.stats.names, cell.data.images.tolist(), strict=True)),
            "minival": len(cell.data.minival_rows),
            "test": meta.counts["test"],
            "dropped_leaks": meta.dropped_leaks,
            "excluded": meta.skipped.get("train", {}).get("excluded", 0),
            "set_aside": len(meta.faults),
        },
        **extra,
        "notices": [*extra.get("notices", []), *notices],
        "config": cell.config,
        "seed": cell.config["seed"],
        "seconds": round(time.monotonic() - begin, 2),
    }
    results.write(directory, result, faces.ids, faces.labels, probabilities.numpy())
    return result


def processor() -> str:
    """The name of this machine's processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _device(how: Pass) -> str:
    return torch.cuda.get_device_name() if how.device.type == "cuda" else "cpu"
