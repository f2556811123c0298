"""What a run left in its ``.wandb`` file, read without wandb's own reader: a log of protobuf records in blocks."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = 32768
HEADER = struct.Struct(
    "<IHB"
)  # checksum, length, and whether it is a whole record, its first, middle or last part
FIRST_HEADER = 7


class Run(NamedTuple):
    """A run as a server would be told of it; summary is what holds after the last record."""

    about: Any
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    metrics: list[Any]
    files: list[str]


def _records(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    place, parts = FIRST_HEADER, b""
    while place + HEADER.size <= len(data):
        if BLOCK - place % BLOCK < HEADER.size:  # the rest of a block that no header fits into
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = HEADER.unpack_from(data, place)
        place += HEADER.size
        parts += data[place : place + length]
        place += length
        if kind in (1, 4):
            yield parts
            parts = b""


def read(path: Path) -> Run:
    from wandb.proto import wandb_internal_pb2 as proto

    about, config, history, summary, metrics, files = None, {}, [], {}, [], []
    for raw in _records(path):
        record = proto.Record()
        record.ParseFromString(raw)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            about = record.run
            config |= _values(record.run.config.update)
        elif kind == "config":
            config |= _values(record.config.update)
        elif kind == "history":
            history.append(_values(record.history.item))
        elif kind == "summary":
            summary |= _values(record.summary.update)
        elif kind == "metric":
            metrics.append(record.metric)
        elif kind == "files":
            files += [item.path for item in record.files.files]
    return Run(about, config, history, summary, metrics, files)


def _values(items: Any) -> dict[str, Any]:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
