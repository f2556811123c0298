"""What it takes to read, key and check the annotations of a large data set, on made-up ones without pictures.

    python experiments/benchmarks/annotations.py [--rows 287651] [--out experiments/benchmarks/annotations.json]

AffectNet's first release, with its 136 landmarks a line, is read by data=affectnet; tables with a path, a label, a
split, a box, a person, valence and arousal by data=csv, as text and as parquet. Each number is of a fresh process
that imports what it needs and no more. Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scale import Told, emotions, memory, test_emotions, timed, write_annotations

from fer_lightning.core.emotions import AFFECTNET_TRAIN_COUNTS, EMOTIONS

HEADER = ("file", "emotion", "split", "x", "y", "width", "height", "person", "valence", "arousal")


def lines(rows: int) -> Iterator[str]:
    """Rows of a table; the last 4,000 are for testing."""
    for split, labels in (("train", emotions(rows)), ("test", test_emotions())):
        for i, label in enumerate(labels):
            box = f"{i % 90},{i % 80},250,250"
            path = f"images/{i % 1200}/{split}{i:050x}.jpg"
            yield f"{path},{EMOTIONS[label]},{split},{box},person{i % 5000},-0.017,0.004"


def write(option: str, folder: Path, rows: int) -> None:
    """Write the annotations that an option of ``data`` reads."""
    if option == "affectnet":
        write_annotations(folder, rows)
        return
    folder.mkdir()
    with (folder / "faces.csv").open("w") as stream:
        stream.writelines(f"{line}\n" for line in (",".join(HEADER), *lines(rows)))
    if option == "csv, parquet":
        import pyarrow.csv
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.csv.read_csv(folder / "faces.csv"), folder / "faces.parquet")
        (folder / "faces.csv").unlink()


OPTIONS = ("affectnet", "csv", "csv, parquet")


def read(option: str, folder: Path) -> Told:
    """Return the seconds of each step from annotations to a key, and the memory at most."""
    from fer_lightning.data.readers import affectnet, table
    from fer_lightning.data.split import with_test_split

    told: Told = {}
    reader, test_split = (affectnet, "val") if option == "affectnet" else (table, "test")
    found = timed(told, "read", lambda: reader.read(str(folder), EMOTIONS))
    manifest = timed(told, "test_split", lambda: with_test_split(found, test_split))
    timed(told, "key", manifest.hash)
    timed(told, "check", manifest.check)
    return {**told, "seconds": sum(told.values()), "rows": manifest.rows.num_rows, "peak_mb": memory("VmHWM")}


def fresh(option: str, rows: int) -> Told:
    """Return what reading tells in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        write(option, folder, rows)
        command = [sys.executable, __file__, "--read", option, str(folder)]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=sum(AFFECTNET_TRAIN_COUNTS), help="for training")
    parser.add_argument("--out", type=Path, help="write the JSON here, too")
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read(options.read[0], Path(options.read[1]))))
        return
    from telling import tell  # needs torch, which a reader does not

    told = {option: fresh(option, options.rows) for option in OPTIONS}
    rounded = {option: {name: round(value, 3) for name, value in one.items()} for option, one in told.items()}
    tell({"rows": options.rows, "options": rounded}, options.out)


if __name__ == "__main__":
    main()
