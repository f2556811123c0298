"""Test of a run: every picture once on one device, corrections fitted on the minival, and result.json."""

from __future__ import annotations

import logging
import math
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fer_lightning.core import versions
from fer_lightning.core.files import atomic_path
from fer_lightning.evaluation import metrics, posthoc, results
from fer_lightning.evaluation.embeddings import apply, backbone_embeddings, through
from fer_lightning.inference.checkpoint import keep_corrections
from fer_lightning.inference.model import Model
from fer_lightning.losses.center_statistics import class_means, class_sums
from fer_lightning.losses.softmax import at_least_float32
from fer_lightning.models.forward_pass import Pass
from fer_lightning.models.network import Network
from fer_lightning.run.set_up import EvaluationSetup
from fer_lightning.run.train_stages import Training

log = logging.getLogger(__name__)

EMBEDDINGS_KEPT = 1000
"""Largest number of test pictures whose embeddings a run keeps for figures."""


class Seen(NamedTuple):
    """Outputs of a network for the N pictures of a part, in order, each once, on one device.

    Attributes:
        embeddings: outputs of the neck (N, D) for the pictures as they are.
        logits: logits (N, C) in float64; with flip averaging the mean over each picture and its mirror image.
    """

    embeddings: Tensor
    logits: Tensor


def see(network: Network, setup: EvaluationSetup, part: str) -> Seen:
    """Compute embeddings and logits of train, minival or test."""
    embeddings = _embeddings(network, setup, part, mirrored=False)
    views = [embeddings]
    if setup.data.options.flip_averaging:
        views.append(_embeddings(network, setup, part, mirrored=True))
    head = setup.forward_pass.place(network.head).eval()
    logits = [apply(lambda x: at_least_float32(head(x).logits), view, setup.forward_pass, part) for view in views]
    return Seen(embeddings, torch.stack([view.double() for view in logits]).mean(0))


def _embeddings(network: Network, setup: EvaluationSetup, part: str, *, mirrored: bool) -> Tensor:
    """Return embeddings (N, D) of the pictures or their mirror images; those of a frozen backbone are cached."""
    weights = setup.shared_weights
    raw = backbone_embeddings(
        network.backbone, setup.data, part, setup.forward_pass, weights=weights, mirrored=mirrored
    )
    return through(network.neck, raw, setup.forward_pass)


def corrected(
    model: Model, setup: EvaluationSetup, tested: Tensor
) -> tuple[dict[str, posthoc.Corrected], list[str]]:
    """Return test logits (N, C) after each correction of posthoc.py, or none and a notice with the reason."""
    data, stats = setup.data, setup.stats
    if any(model.card["protocol"][key] != setup.protocol[key] for key in ("faces", "minival")):
        # the model may have been trained on pictures of another minival
        return {}, ["no post-hoc columns: the minival is not the one that the checkpoint was chosen by"]
    labels = data.labels("minival")
    held_out = np.bincount(labels, minlength=stats.num_classes)
    if missing := [name for name, *n in zip(stats.names, held_out, stats.counts, strict=True) if min(n) == 0]:
        return {}, [f"no post-hoc columns: minival or training part have no picture of {', '.join(missing)}"]
    fit_on = see(model.network, setup, "minival").logits, torch.from_numpy(labels)
    return posthoc.corrected(fit_on, tested, stats, model.network.head), []


def watch_centers(training: Training, network: Network) -> dict[str, Any]:
    """Return scalars of the centers after the last epoch: their drift by class and, for cluster loss, D_k."""
    if not hasattr(network.head, "epoch_scalars"):
        return {}
    names = training.setup.stats.names
    embeddings, labels = training.train_embeddings(network)
    means = class_means(embeddings.double(), labels, len(names))
    scalars = network.head.cpu().epoch_scalars(means, embeddings.double().mean(0))
    return {scalar: dict(zip(names, by_class.tolist(), strict=True)) for scalar, by_class in scalars.items()}


def finish(
    directory: Path,
    model: Model,
    setup: EvaluationSetup,
    begin: float,
    extra: dict[str, Any],
    kept: Sequence[int] | None = None,
    checkpoint: Path | None = None,
) -> results.Result:
    """Test a model, and write the predictions and result.json of the run.

    Args:
        directory: folder of the result.
        model: model with the weights to test.
        setup: data and protocol of the test.
        begin: time of the monotonic clock when the run began.
        extra: further keys of the result.
        kept: ascending indices (K,) of the model's classes that the result has, among them all labels of the test;
            the probabilities are renormalised over them. None: all classes.
        checkpoint: checkpoint of the model, to which the fitted corrections are added; None: none is changed.
    """
    embeddings, tested = see(model.network, setup, "test")
    columns, notices = corrected(model, setup, tested)
    for text in notices:
        log.warning("notice: %s", text)
    faces = setup.data.store.split("test")
    chosen = np.arange(len(model.classes)) if kept is None else np.asarray(kept)
    classes = tuple(model.classes[k] for k in chosen)
    labels = np.searchsorted(chosen, faces.labels)
    probabilities = tested[:, chosen].softmax(1)
    corrections = {name: logits[:, chosen] for name, (_, logits) in columns.items()}

    def measured(p: Tensor) -> dict[str, Any]:
        return metrics.evaluate(p, torch.from_numpy(labels), classes)

    scores = measured(probabilities)
    assert sum(map(sum, scores["confusion"])) == len(faces)
    content = {
        **scores,
        "posthoc": {
            name: {**columns[name].fitted, **measured(logits.softmax(1))} for name, logits in corrections.items()
        },
        "geometry": geometry(embeddings, torch.from_numpy(labels), classes),
        "classes": list(classes),
        "protocol": setup.protocol,
        "provenance": _provenance(setup),
        "data": _data_counts(setup),
        "by_group": metrics.by_group(probabilities.argmax(1).numpy(), labels, faces.attributes, classes),
        **extra,
        "notices": [*extra.get("notices", []), *notices],
        "config": setup.config,
        "seed": setup.config["seed"],
        "seconds": round(time.monotonic() - begin, 2),
    }
    _keep_embeddings(directory, embeddings, labels, probabilities, faces.ids, _centers(model, chosen))
    result = results.Result.model_validate(content)
    predictions = {str(name): logits.argmax(1).numpy() for name, logits in corrections.items()}
    for attribute, groups in result.by_group.items():
        recalls = (f"{value} {scores.macro_recall:.3f} ({scores.images})" for value, scores in groups.items())
        log.info("macro recall by %s (images): %s", attribute, ", ".join(recalls))
    if checkpoint is not None:  # before the result, with which the run is complete
        keep_corrections(checkpoint, {name: column.fitted for name, column in columns.items()})
    persons = faces.identity.to_pylist()
    results.write(directory, result, faces.ids, labels, probabilities.numpy(), predictions, persons)
    return result


def _provenance(setup: EvaluationSetup) -> dict[str, Any]:
    return {
        "versions": versions.versions(),
        "machine": {
            "processor": processor(),
            "device": _device(setup.forward_pass),
            "threads": torch.get_num_threads(),
        },
        "paths": {"data": setup.config["data"]["root"], "faces": str(setup.data.store.folder)},
    }


def _data_counts(setup: EvaluationSetup) -> dict[str, Any]:
    meta, images = setup.data.store.meta, setup.data.images
    return {
        "train": dict(zip(setup.stats.names, images.tolist(), strict=True)) if images.any() else {},
        "minival": len(setup.data.minival_rows),
        "test": meta.counts["test"],
        "left_out": meta.skipped.get("test", {}),
        "dropped_leaks": meta.dropped_leaks,
        "excluded": meta.skipped.get("train", {}).get("excluded", 0),
        "set_aside": len(meta.faults),
        "redistributable": setup.config["data"].get("redistributable", False),
    }


def geometry(embeddings: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """Return the spread of each class, and the distances between classes.

    Args:
        embeddings: x (N, D).
        labels: class indices (N,).
        classes: names of the C classes.

    Returns:
        ``within`` by class: sqrt(mean ||x_i - m_k||^2) over its pictures, m_k their mean; ``between``:
        ||m_j - m_k||, C lists of C numbers. None for a class without pictures.
    """
    x = embeddings.double()
    members = [x[labels == k] for k in range(len(classes))]
    means = torch.stack([x_k.mean(0) for x_k in members])  # nan for a class without pictures
    within = [float((x_k - m_k).square().sum(1).mean().sqrt()) for x_k, m_k in zip(members, means, strict=True)]
    between = torch.linalg.vector_norm(means[:, None] - means[None], dim=2).tolist()
    return {
        "within": {name: _known(value) for name, value in zip(classes, within, strict=True)},
        "between": [[_known(value) for value in row] for row in between],
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _centers(model: Model, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.float32] | None:
    """Return the centers (K, D) of the head for the chosen classes; None where it has none."""
    centers = getattr(model.network.head, "centers", None)
    return None if centers is None else np.asarray(centers.detach().float().cpu())[chosen]


def _keep_embeddings(
    directory: Path,
    embeddings: Tensor,
    labels: npt.NDArray[np.int64],
    probabilities: Tensor,
    ids: Sequence[str],
    centers: npt.NDArray[np.float32] | None,
) -> None:
    """Write embeddings of a sample of test pictures, stratified by class, and the centers, for figures."""
    step = max(1, math.ceil(len(ids) / EMBEDDINGS_KEPT))
    rows = np.sort(np.argsort(labels, kind="stable")[::step])
    sums = class_sums(embeddings, torch.from_numpy(labels), probabilities.shape[1])
    arrays: dict[str, Any] = {
        "embeddings": embeddings[rows].half().numpy(),
        "labels": labels[rows],
        "predictions": probabilities.argmax(1)[rows].numpy(),
        "ids": np.array([ids[row] for row in rows]),
        "class_means": (sums[:, :-1] / sums[:, -1:]).float().numpy(),
    }
    if centers is not None:
        arrays["centers"] = centers
    with atomic_path(directory / results.EMBEDDINGS) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def processor() -> str:
    """Return the name of the processor of this machine."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _device(forward_pass: Pass) -> str:
    return torch.cuda.get_device_name() if forward_pass.device.type == "cuda" else "cpu"
