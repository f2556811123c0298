"""What a table over ten folds says when pictures, sequences or persons are kept apart.

Drawn sequences in the manner of CK+: each person shows some emotions, each from a weak to a strong expression in a
few frames that look alike. The same method is tested over ten folds three times: with the frames dealt out one by
one, with near copies kept together (nobody says who is pictured), and with persons kept together.

    python experiments/benchmarks/persons.py experiments/results/persons
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2

from fer_lightning.core.emotions import EMOTIONS
from fer_lightning.data.synthetic.shots import TRAIN, Shot, take

PERSONS = 60
SEQUENCES = 4
FRAMES = 5
SIDE = 64
INTENSITIES = [0.9, 0.95, 1.0, 1.05, 1.1]
LABEL_NOISE = 0.25
"""Share of sequences that show another emotion than their label: who is right there has seen the sequence."""

KEPT_TOGETHER = {
    "frames": r"data.group='(.+)'",
    "near_copies": "data.group=null",
    "persons": r"data.group='(S\d+)_'",
}
WORDS = [
    "data=folder",
    "data.folds=10",
    "data.fold=0,1,2,3,4,5,6,7,8,9",
    "data.size=48",
    "data.codec=raw",
    "data.minival=0.1",
    "data.batch_size=64",
    "loss=softmax",
    "stage=two_stage",
    "stage.fine_tuning.epochs=8",
]


def draw(root: Path) -> None:
    """Draw the sequences as EMOTION/S001_002_00000003.png."""
    for person in range(PERSONS):
        for number in range(SEQUENCES):
            label = EMOTIONS[(person + number * 2) % len(EMOTIONS)]
            shot = Shot(0, TRAIN, person * SEQUENCES + number, person, label, 1.0, LABEL_NOISE)
            for frame, intensity in enumerate(INTENSITIES):
                face = take(replace(shot, intensity=intensity))[0].crop(SIDE, 0.1)
                file = root / label / f"S{person:03}_{number:03}_{frame:08}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), cv2.cvtColor(face, cv2.COLOR_RGB2BGR))


def main(results: Path) -> None:
    """Train all folds of each division, and keep the tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "set")
        for kept, group in KEPT_TOGETHER.items():
            runs = folder / kept
            fer = [
                sys.executable,
                "-m",
                "fer_lightning",
                "train",
                "-m",
                *WORDS,
                group,
                f"data.root={folder / 'set'}",
                f"hydra.sweep.dir={runs}",
            ]
            subprocess.run(fer, check=True)
            print(f"\nkept together: {kept}", flush=True)
            subprocess.run([sys.executable, "-m", "fer_lightning", "table", "folds", str(runs)], check=True)
            results.mkdir(parents=True, exist_ok=True)
            shutil.copy(runs / "folds.csv", results / f"{kept}.csv")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
