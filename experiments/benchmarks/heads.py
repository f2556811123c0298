"""What each loss head costs: forward and backward beside softmax's, and beside a MobileNet's training step.

python experiments/benchmarks/heads.py [--batch 256] [--features 2048] [--rounds 200] [--threads 1]

All heads of conf/loss, alternating in one run; those with centers also take the centers' step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor

from fer_lightning.config.compose import compose
from fer_lightning.config.instantiate import arguments, target
from fer_lightning.config.shipped import groups
from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.emotions import AFFECTNET_TRAIN_COUNTS, EMOTIONS
from fer_lightning.losses.center_term import CenterTermHead

MOBILENET_BATCH = 32


def all_heads(features: int) -> dict[str, Any]:
    """A head for each option, and cluster loss with the other rules for its centers."""
    stats = ClassStats(EMOTIONS, AFFECTNET_TRAIN_COUNTS)
    nodes = {name: compose([f"loss={name}"])["loss"] for name in ("softmax", *groups()["loss"])}
    for update in ("exact", "gradient"):
        nodes[f"cluster, {update}"] = {**nodes["cluster"], "center_update": update}
    return {name: target("loss", node)(features, stats, **arguments(node)) for name, node in nodes.items()}


def step(head: Any, features: Tensor, labels: Tensor, weights: Tensor) -> None:
    """What a head adds to a training step."""
    output = head(features, labels)
    (output.per_sample.mean() + output.penalty).backward()
    if isinstance(head, CenterTermHead):
        head.observe(features, labels, weights)
        head.after_step()


def mobilenet_step() -> Callable[[], None]:
    """Forward and backward of a MobileNet-V1 at 112 pixels."""
    network = timm.create_model("mobilenetv1_100", num_classes=0)
    images = torch.randn(MOBILENET_BATCH, 3, 112, 112)
    return lambda: network(images).sum().backward()


def seconds(function: Callable[[], None]) -> float:
    """Processor time of a call: other processes on the machine do not count."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    heads, weights = all_heads(options.features), torch.ones(len(EMOTIONS))
    mobilenet, whole = mobilenet_step(), []
    taken: dict[str, list[float]] = {name: [] for name in heads}
    for number in range(options.rounds):
        features = torch.randn(options.batch, options.features, requires_grad=True)
        labels = torch.randint(0, len(EMOTIONS), (options.batch,))
        for name, head in heads.items():
            taken[name].append(seconds(partial(step, head, features, labels, weights)))
        if number % 20 == 0:
            whole.append(seconds(mobilenet) / MOBILENET_BATCH * options.batch)
    base, network = statistics.median(taken["softmax"]), statistics.median(whole)
    print(
        f"N {options.batch}, D {options.features}, C {len(EMOTIONS)}, {options.threads} threads: median of a step"
    )
    print(f"  MobileNet-V1, 112 px, forward and backward: {1e3 * network:.0f} ms")
    for name, values in taken.items():
        median = statistics.median(values)
        share = f"{median / network:.3%} of MobileNet's"
        print(f"  {name:<20} {1e3 * median:8.3f} ms {median / base:6.2f} x softmax   {share}")


if __name__ == "__main__":
    main()
