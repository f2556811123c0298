"""What a run will cost, estimated from some measured steps; nothing is trained or prepared for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fer_lightning.core.contracts import ClassStats
from fer_lightning.data import dataset
from fer_lightning.models.forward_pass import Pass
from fer_lightning.models.freeze import freeze, keep_frozen_in_eval
from fer_lightning.models.network import Network
from fer_lightning.run import build
from fer_lightning.training.stage import Stage

SECONDS = 0.5
"""How long each kind of step is measured, once at least."""


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Measure the forward pass and, for each stage, a training step, on random pictures of the right size.

    Returns:
        ``embed``: seconds a picture of a pass without gradient; ``views``: such passes over the training part;
        ``stages``: seconds of each, by name, over all its epochs; ``rows``: pictures by split; ``disk``: bytes
        still needed for faces, embeddings and one checkpoint.
    """
    settings = build.trainer(config)
    torch.set_num_threads(settings.threads)
    how = Pass(settings.device, settings.precision, settings.channels_last)
    manifest = dataset.manifest(config)
    rows = {split: sum(manifest.counts(split).values()) for split in ("train", "test")}
    stats = ClassStats(manifest.classes, tuple(manifest.counts("train").values()))
    backbone = build.backbone(config, pretrained=False)
    size, batch = build.input_side(config), config["data"]["batch_size"] // config["trainer"]["devices"]
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=how.device)
    images = images.contiguous(memory_format=how.memory_format)
    labels = torch.randint(0, stats.num_classes, (batch,), device=how.device)
    seconds: dict[str, float] = {}
    stages = build.stages(config)
    losses = [stage.loss for stage in stages.values()]
    neck, heads = build.neck_and_heads(config, losses, backbone.num_features, stats)
    for name, stage in stages.items():
        if stage.from_embeddings:
            seconds[name] = 0.0  # from embeddings next to nothing
            continue
        step = _step(Network(backbone, neck, heads[stage.loss]), stage, images, labels, how)
        epoch = _seconds(step, how) / batch * rows["train"] / config["trainer"]["devices"]
        seconds[name] = epoch * stage.epochs
    with torch.no_grad():
        embed = _seconds(lambda: how.run(backbone.eval(), images), how) / batch
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    views = max(stage.views or 1 for stage in stages.values())
    embeddings = 4 * backbone.num_features * rows["train"] * views
    disk = {
        "faces": dataset.missing_bytes(config, manifest),
        "embeddings": embeddings,
        "checkpoint": 4 * parameters,
    }
    return {"embed": embed, "views": views, "stages": seconds, "rows": rows, "disk": disk}


def _step(network: Network, stage: Stage, images: Tensor, labels: Tensor, how: Pass) -> Callable[[], None]:
    """A training step without the optimizer's part, which is small."""
    how.place(network).train()
    freeze(network.backbone, stage.freeze, stage.batch_norm)
    keep_frozen_in_eval(network)

    def step() -> None:
        losses = how.run(lambda x: network(x, labels).per_sample, images)
        torch.autograd.backward(losses.mean())

    return step


def _seconds(step: Callable[[], Any], how: Pass) -> float:
    """Median seconds of a step."""
    step()
    times: list[float] = []
    while sum(times) < SECONDS:
        begin = time.perf_counter()
        step()
        if how.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return sorted(times)[len(times) // 2]
