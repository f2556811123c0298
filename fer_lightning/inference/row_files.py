"""Files of predictions, written row by row: what is written so far can be read after an interruption."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fer_lightning.core.errors import UserError

Row = dict[str, Any]
Write = Callable[[Row], None]

ROW_GROUP = 10_000

_TEXTS, _NUMBERS = ("source", "label", "note"), ("frame", "face")


@contextmanager
def row_file(path: Path, columns: Sequence[str]) -> Iterator[Write]:
    """Yield the function that writes a row to a file, whose ending tells its kind.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("wb")
    except (PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    with stream:
        if path.suffix == ".parquet":
            with _parquet(stream, columns) as write:
                yield write
            return
        with io.TextIOWrapper(stream, encoding="utf-8", newline="") as text:
            yield _csv(text, columns) if path.suffix == ".csv" else _jsonl(text)


def to_stdout(columns: Sequence[str]) -> Write:
    """Return the function that prints a row: as a line to read on a terminal, as CSV into a pipe."""
    return _readable() if sys.stdout.isatty() else _csv(sys.stdout, columns)


def _csv(stream: IO[str], columns: Sequence[str]) -> Write:
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()

    def write(row: Row) -> None:
        writer.writerow({key: f"{value:.9g}" if isinstance(value, float) else value for key, value in row.items()})
        stream.flush()

    return write


def _jsonl(stream: IO[str]) -> Write:
    def write(row: Row) -> None:
        stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        stream.flush()

    return write


@contextmanager
def _parquet(stream: IO[bytes], columns: Sequence[str]) -> Iterator[Write]:
    """Yield the function that adds a row; the file is complete when the block ends, however it ends."""
    kinds = [
        pa.string() if name in _TEXTS else pa.int64() if name in _NUMBERS else pa.float64() for name in columns
    ]
    schema = pa.schema(list(zip(columns, kinds, strict=True)))
    rows: list[Row] = []
    with pq.ParquetWriter(stream, schema) as writer:

        def flush() -> None:
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema))
            rows.clear()

        def write(row: Row) -> None:
            rows.append(row)
            if len(rows) >= ROW_GROUP:
                flush()

        try:
            yield write
        finally:
            flush()


def _readable() -> Write:
    print(f"{'source':<40} {'frame':>7} {'face':>4} {'box':>21} {'label':<12} {'p':>5}")

    def write(row: Row) -> None:
        source = row["source"] if len(row["source"]) <= 40 else f"...{row['source'][-37:]}"
        frame = "" if row["frame"] is None else row["frame"]
        box = "" if row["x"] is None else " ".join(f"{row[key]:.0f}" for key in "xywh")
        said = row["note"] if row["p"] is None else f"{row['label']:<12} {row['p']:5.2f}"
        print(f"{source:<40} {frame:>7} {row['face'] or '':>4} {box:>21} {said}", flush=True)

    return write
