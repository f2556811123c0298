"""What each loss head costs beside softmax: forward and backward, alternating in one run.

python experiments/benchmarks/heads.py [--batch 256] [--features 2048] [--rounds 200] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from fer_lightning.contracts import ClassStats
from fer_lightning.labels import AFFECTNET_TRAIN_COUNTS, EMOTIONS
from fer_lightning.losses.center import CenterHead
from fer_lightning.losses.cluster import ClusterHead
from fer_lightning.losses.softmax import SoftmaxHead


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    stats = ClassStats(EMOTIONS, AFFECTNET_TRAIN_COUNTS)
    heads = {
        "softmax": SoftmaxHead(options.features, stats),
        "center, running": CenterHead(options.features, stats),
        "cluster, running": ClusterHead(options.features, stats),
        "cluster, exact": ClusterHead(options.features, stats, center_update="exact"),
        "cluster, gradient": ClusterHead(options.features, stats, center_update="gradient"),
    }
    weights = torch.ones(len(EMOTIONS))
    seconds: dict[str, list[float]] = {name: [] for name in heads}
    for _ in range(options.rounds):
        features = torch.randn(options.batch, options.features, requires_grad=True)
        labels = torch.randint(0, len(EMOTIONS), (options.batch,))
        for name, head in heads.items():
            begin = time.perf_counter()
            head(features, labels).per_sample.mean().backward()
            if name != "softmax":
                head.observe(features, labels, weights)
                head.step_centers()
            seconds[name].append(time.perf_counter() - begin)
    base = statistics.median(seconds["softmax"])
    print(
        f"N {options.batch}, D {options.features}, C {len(EMOTIONS)}, {options.threads} threads: median of a step"
    )
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"  {name:<18} {1e3 * median:7.3f} ms  {median / base:5.2f} x softmax")


if __name__ == "__main__":
    main()
