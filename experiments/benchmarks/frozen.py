"""An epoch over a frozen backbone: from its cached embeddings, beside through the backbone itself.

    python experiments/benchmarks/frozen.py data=ferplus data.root=FERPLUS data.test_split=val \\
        backbone=mobilenetv1_vggface2 backbone.weights=MOBILENET trainer.threads=2

Both train the same neck and head on the same draws, by the project's own Trainer, the minival's evaluation
included. They alternate; the ratio is the median of those within a round. The embeddings are there before: what
they cost once is about one epoch through the backbone. Overrides as for `fer train`; without any, drawn faces and
the tiny backbone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from telling import portable, tell

from fer_lightning.config.compose import compose
from fer_lightning.run.check_config import check
from fer_lightning.run.set_up import quiet_logs, set_up
from fer_lightning.run.train_stages import Training

STAGE = ["stage=feature_extraction", "logger=none"]


def seconds_an_epoch(overrides: list[str], *, cached: bool, epochs: int) -> float:
    """Of a fit of so many epochs, the Trainer's start and end included."""
    words = [*STAGE, f"stage.epochs={epochs}", f"stage.feature_extraction.cached={str(cached).lower()}"]
    config = compose([*overrides, *words])
    check(config)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(set_up(config), Path(folder))
        training.run()
    return training.results[-1].seconds / epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10, help="of the fits from embeddings; the others have one")
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    options = parser.parse_args()
    quiet_logs()
    seconds_an_epoch(options.overrides, cached=True, epochs=1)  # the embeddings
    rounds: list[dict[str, Any]] = []
    for _ in range(options.rounds):
        found = {
            "cached": seconds_an_epoch(options.overrides, cached=True, epochs=options.epochs),
            "through_the_backbone": seconds_an_epoch(options.overrides, cached=False, epochs=1),
        }
        rounds.append({**found, "ratio": found["through_the_backbone"] / found["cached"]})
        print({name: round(value, 3) for name, value in rounds[-1].items()}, flush=True)
    told = {
        "seconds_an_epoch": {name: statistics.median(one[name] for one in rounds) for name in found},
        "ratio": statistics.median(one["ratio"] for one in rounds),
        "rounds": rounds,
        "overrides": portable(options.overrides),
    }
    tell(told, options.out)


if __name__ == "__main__":
    main()
