"""An epoch of training the last block: from kept activations, beside through pictures, against a bare loop's gain.

    python experiments/benchmarks/kept_activations.py data=ferplus data.root=FERPLUS data.test_split=val \\
        backbone=mobilenetv1_vggface2 backbone.weights=MOBILENET data.size=112 data.batch_size=32

Both train the same on the same draws, by the project's own Trainer, the minival's evaluation and the checkpoints
included; the first epoch, which warms up, is left out. The bare loop takes the same steps in plain torch, on one
batch that lies in memory: with the frozen part in front of each step, and without. The four alternate in one
process; each ratio is of one round, and what is told is their median. It is processor time of one thread, so that
other work on the machine counts little. Overrides as for `fer train`; without any, drawn faces and `tiny`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from telling import portable, tell

from fer_lightning.config.compose import compose
from fer_lightning.evaluation.activations import activation_bytes
from fer_lightning.models.freeze import keep_frozen_in_eval
from fer_lightning.models.last_block import split
from fer_lightning.models.network import Network
from fer_lightning.run.check_config import check
from fer_lightning.run.set_up import RunSetup, quiet_logs, set_up
from fer_lightning.run.train_stages import Training
from fer_lightning.training.loggers.run_logger import RunLogger

STAGE = ["stage=fine_tuning", "stage.fine_tuning.views=1", "logger=none"]


class Clock(RunLogger):
    """Notes the processor time at the end of every epoch."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def epochs(self, stages: Any) -> None:
        self.times.append(time.process_time())


def made(overrides: list[str], *, cached: bool, epochs: int) -> RunSetup:
    """A run of so many epochs."""
    words = [*STAGE, f"stage.epochs={epochs}", f"stage.fine_tuning.cached={str(cached).lower()}"]
    config = compose([*words, *overrides])
    check(config)
    return set_up(config)


def seconds_of_ours(overrides: list[str], *, cached: bool, epochs: int) -> float:
    """Processor time of an epoch for each of its training pictures."""
    clock, setup = Clock(), made(overrides, cached=cached, epochs=epochs + 1)
    with tempfile.TemporaryDirectory() as folder:
        Training(setup, Path(folder), clock).run()
    batches = setup.data.batches()
    pictures = len(batches) * batches.batch_size
    return (clock.times[-1] - clock.times[0]) / epochs / pictures


class BareLoop:
    """Steps in plain torch with the parts of a run.

    Args:
        setup: the run.
        steps: steps that are timed at once.
    """

    def __init__(self, setup: RunSetup, steps: int) -> None:
        (stage,) = setup.stages
        self.how, self.steps = setup.forward_pass, steps
        network = self.how.place(Network(setup.backbone, setup.neck, setup.heads[stage.stage.loss]))
        self.parts = split(setup.backbone, stage.stage.freeze)
        keep_frozen_in_eval(network.train())
        self.network = network
        self.optimizer, _ = stage.recipe.build(network, steps)
        side, count = setup.data.side, setup.config["data"]["batch_size"]
        images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
        self.images = images.contiguous(memory_format=self.how.memory_format)
        self.labels = torch.arange(count) % setup.stats.num_classes
        with torch.no_grad():
            self.activations = self.how.run(self.parts.front, self.images)

    def seconds(self, *, cached: bool) -> float:
        """Processor time of a step for each of its pictures, from the activations or from the pictures."""
        tail, neck, head = self.parts.tails[True], self.network.neck, self.network.head
        whole: Callable[[torch.Tensor], torch.Tensor] = self.network.backbone
        compute, given = (tail, self.activations) if cached else (whole, self.images)
        begin = time.process_time()
        for _ in range(self.steps):
            loss = self.how.run(lambda x: head(neck(compute(x)), self.labels).per_sample.mean(), given)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return (time.process_time() - begin) / self.steps / len(self.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4, help="of the fits from activations; the others have one")
    parser.add_argument("--steps", type=int, default=30, help="of the bare loop, in each round")
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    options = parser.parse_args()
    quiet_logs()
    setup = made(options.overrides, cached=True, epochs=1)
    loop = BareLoop(setup, options.steps)
    each = activation_bytes(loop.parts.front, setup.forward_pass, setup.data.side)
    seconds_of_ours(options.overrides, cached=True, epochs=1)  # the activations
    rounds: list[dict[str, Any]] = []
    for _ in range(options.rounds):
        found = {
            "ours_cached": seconds_of_ours(options.overrides, cached=True, epochs=options.epochs),
            "bare_cached": loop.seconds(cached=True),
            "bare_through_pictures": loop.seconds(cached=False),
            "ours_through_pictures": seconds_of_ours(options.overrides, cached=False, epochs=1),
        }
        ours = found["ours_through_pictures"] / found["ours_cached"]
        bare = found["bare_through_pictures"] / found["bare_cached"]
        rounds.append({**found, "gain": ours, "bare_gain": bare, "share_of_the_gain": ours / bare})
        print({name: round(value, 5) for name, value in rounds[-1].items()}, flush=True)
    told = {
        "gain": statistics.median(one["gain"] for one in rounds),
        "bare_gain": statistics.median(one["bare_gain"] for one in rounds),
        "share_of_the_gain": statistics.median(one["share_of_the_gain"] for one in rounds),
        "seconds_a_picture": {name: statistics.median(one[name] for one in rounds) for name in found},
        "bytes_a_picture": each,
        "pictures": len(setup.data.train_rows),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "overrides": portable(options.overrides),
    }
    tell(told, options.out)


if __name__ == "__main__":
    main()
