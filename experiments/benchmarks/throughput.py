"""Training throughput of FERModule under Lightning against a bare loop, alternating in one run.

    python experiments/benchmarks/throughput.py                                # one GPU, the paper's backbone
    python experiments/benchmarks/throughput.py --device cpu --backbone resnet18 --size 32 --batch 8 --steps 3

Both train the whole of a timm network with linear512_prelu neck and the cluster head, with AdamW, from uint8
batches that lie in pinned host memory. The ratio is what the framework costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from functools import partial

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import LambdaCallback
from torch.utils.data import DataLoader, Dataset

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.emotions import AFFECTNET_TRAIN_COUNTS, EMOTIONS
from fer_lightning.losses.center_term import CenterTermHead
from fer_lightning.losses.cluster import ClusterHead
from fer_lightning.models.backbone import TimmBackbone
from fer_lightning.models.neck import LinearPReLU
from fer_lightning.models.network import Network
from fer_lightning.training.module import FERModule
from fer_lightning.training.optimizers import Recipe, adamw

RECIPE = Recipe(partial(adamw, lr=1e-4, weight_decay=0.01, fused=True))


class Batches(Dataset):
    """``steps`` batches of random pictures, made once."""

    def __init__(self, steps: int, batch: int, size: int) -> None:
        self.images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
        self.labels = torch.randint(0, len(EMOTIONS), (batch,))
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images, self.labels


def network(name: str) -> Network:
    """A network with random weights."""
    backbone = TimmBackbone(name, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    neck = LinearPReLU(backbone.num_features)
    return Network(backbone, neck, ClusterHead(neck.num_features, ClassStats(EMOTIONS, AFFECTNET_TRAIN_COUNTS)))


def loader(options: argparse.Namespace) -> DataLoader:
    data = Batches(options.steps, options.batch, options.size)
    return DataLoader(data, batch_size=None, pin_memory=options.device == "cuda")


def with_lightning(options: argparse.Namespace) -> float:
    """Images a second of Trainer.fit's training epoch."""
    module = FERModule(network(options.backbone), torch.ones(len(EMOTIONS)), RECIPE, channels_last=True)
    times: list[float] = []

    def tick(*_: object) -> None:
        if options.device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=2,  # the first warms up
            accelerator="gpu" if options.device == "cuda" else "cpu",
            devices=1,
            precision=options.precision,
            callbacks=[LambdaCallback(on_train_epoch_start=tick, on_train_epoch_end=tick)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(module, loader(options))
    return options.steps * options.batch / (times[3] - times[2])


def bare(options: argparse.Namespace) -> float:
    """Images a second of a hand-written loop."""
    device = torch.device(options.device)
    model = network(options.backbone).to(device).to(memory_format=torch.channels_last).train()
    optimizer, schedule = RECIPE.build(model, 2 * options.steps)
    half = torch.bfloat16 if options.precision == "bf16-mixed" else None
    head = model.head
    assert isinstance(head, CenterTermHead)
    weights = torch.ones(len(EMOTIONS), device=device)
    begin = 0.0
    for _ in range(2):
        if options.device == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        for images, labels in loader(options):
            pictures = images.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            classes = labels.to(device, non_blocking=True)
            with torch.autocast(device.type, half, enabled=half is not None):
                embeddings = model.embed(pictures)
                loss = head(embeddings, classes).per_sample.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            head.observe(embeddings, classes, weights)
            head.after_step()
        if options.device == "cuda":
            torch.cuda.synchronize()
    return options.steps * options.batch / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--backbone", default="legacy_seresnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="bf16-mixed", choices=["bf16-mixed", "32-true"])
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("bench: there is no CUDA device here; --device cpu measures the CPU instead")
    rounds = [(with_lightning(options), bare(options)) for _ in range(options.rounds)]
    ours, theirs = (statistics.median(values) for values in zip(*rounds, strict=True))
    device = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    told = {
        "device": device,
        **{key: value for key, value in vars(options).items() if key != "device"},
        "fer_lightning_images_per_second": round(ours, 1),
        "bare_loop_images_per_second": round(theirs, 1),
        "ratio": round(statistics.median(a / b for a, b in rounds), 3),
        "torch": torch.__version__,
    }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
