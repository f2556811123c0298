"""Estimate of the cost of a run from measured steps; nothing is trained or prepared for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fer_lightning.core.contracts import ClassStats
from fer_lightning.data import dataset
from fer_lightning.models.forward_pass import Pass
from fer_lightning.models.freeze import freeze, keep_frozen_in_eval
from fer_lightning.models.last_block import TailNetwork, require_split, split
from fer_lightning.models.network import Network
from fer_lightning.run import build, notices
from fer_lightning.training.stage import Stage

SECONDS = 0.5
"""Time for which each kind of step is measured; at least one step is."""


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Measure the forward pass and, for each stage, a training step, on random pictures of the right size.

    Returns:
        ``embed``: seconds per picture of a forward pass without gradient; ``views``: number of such passes over
        the training part; ``stages``: seconds of all epochs of each stage, by name; ``rows``: number of pictures
        by split; ``disk``: bytes still needed for faces, embeddings, activations and one checkpoint;
        ``notices``: what should be known of them.
    """
    settings = build.trainer(config)
    torch.set_num_threads(settings.threads)
    forward_pass = Pass(settings.device, settings.precision, settings.channels_last)
    manifest = dataset.manifest(config)
    rows = {part: sum(manifest.counts(part).values()) for part in ("train", "test")}
    if manifest.held_out:
        rows["test"] = round(manifest.held_out.part * rows["train"])
        rows["train"] -= rows["test"]
    stats = ClassStats(manifest.classes, tuple(manifest.counts("train").values()))
    backbone = build.backbone(config, pretrained=False)
    size, batch = build.input_side(config), config["data"]["batch_size"] // config["trainer"]["devices"]
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=forward_pass.device)
    images = images.contiguous(memory_format=forward_pass.memory_format)
    labels = torch.randint(0, stats.num_classes, (batch,), device=forward_pass.device)
    seconds: dict[str, float] = {}
    kept: dict[str, int] = {}  # bytes of a view of activations
    stages = build.stages(config)
    losses = [stage.loss for stage in stages.values()]
    neck, heads = build.neck_and_heads(config, losses, backbone.num_features, stats)
    for stage in stages.values():
        if stage.from_activations:
            freeze(backbone, stage.freeze, stage.batch_norm)
            require_split(backbone, stage.freeze, build.pictures(config))
    for name, stage in stages.items():
        if stage.from_embeddings:
            seconds[name] = 0.0  # negligible
            continue
        network = Network(backbone, neck, heads[stage.loss])
        freeze(backbone, stage.freeze, stage.batch_norm)
        given = images
        if stage.from_activations:
            forward_pass.place(network)
            parts = split(backbone, stage.freeze)
            network = TailNetwork(network, parts.tails)
            with torch.no_grad():
                given = forward_pass.run(parts.front, images)
            kept[name] = given.nbytes // batch * rows["train"]
        step = _step(network, given, labels, forward_pass)
        epoch = _seconds(step) / batch * rows["train"] / config["trainer"]["devices"]
        seconds[name] = epoch * stage.epochs
    with torch.no_grad():
        embed = _seconds(lambda: forward_pass.run(backbone.eval(), images)) / batch
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    views = max((stage.views or 1 for stage in stages.values() if stage.from_embeddings), default=1)
    more = {name: _views_kept(stages[name], heads[stages[name].loss]) for name in kept}
    disk = {
        "faces": dataset.missing_bytes(config, manifest),
        "embeddings": 4 * backbone.num_features * rows["train"] * views,
        "activations": sum(kept[name] * more[name] for name in kept),
        "checkpoint": 4 * parameters,
    }
    return {
        "embed": embed,
        "views": views + sum(more.values()),
        "stages": seconds,
        "rows": rows,
        "disk": disk,
        "notices": [text for size in kept.values() for text in notices.activation_notices(size)],
    }


def _views_kept(stage: Stage, head: nn.Module) -> int:
    """Return in how many views activations are kept: also as they are if centers are compared with class means."""
    return stage.views + hasattr(head, "epoch_scalars") if stage.views else 1


def _step(network: Network, given: Tensor, labels: Tensor, forward_pass: Pass) -> Callable[[], None]:
    """Return a training step on pictures or activations, without the quick step of the optimizer."""
    forward_pass.place(network).train()
    keep_frozen_in_eval(network)

    def step() -> None:
        losses = forward_pass.run(lambda x: network(x, labels).per_sample, given)
        torch.autograd.backward(losses.mean())

    return step


def _seconds(step: Callable[[], Any]) -> float:
    """Return the median seconds of a step."""
    from torch.utils.benchmark import Timer  # on some machines its import warns of a missing CUDA runtime

    timer = Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=SECONDS).median
