"""Text tables and lists: their encoding and separator are found out from their first lines."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import Fault

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What may stand between the cells of a line, with its name in messages."""

ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is the beginning of this one
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by their byte order mark; text without a mark is UTF-8."""

BEGINNING = 1 << 17  # bytes: a dozen lines of FER2013, whose pictures are in the lines
LINES = 20
LINE_END = r"\r\n|\r|\n"
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?')  # the first line of what Excel exports in some languages


@dataclass(frozen=True)
class TextTable:
    """How a text table is written.

    Attributes:
        file: the table.
        encoding: name of its encoding in Python.
        separator: what stands between its cells.
        names: names of all its columns.
        lines_above: number of lines above its first row.
        headed: whether the first row has the columns' names.
    """

    file: Path
    encoding: str
    separator: str
    names: tuple[str, ...]
    lines_above: int
    headed: bool

    def position(self, name: str) -> int | None:
        """Return the number of a column; without one of exactly this name, upper and lower case are the same."""
        exact = [number for number, own in enumerate(self.names) if own == name]
        alike = [number for number, own in enumerate(self.names) if own.lower() == name.lower()]
        return next(iter(exact + alike), None)

    def has(self, *names: str) -> bool:
        """Return whether there are columns of these names."""
        return all(self.position(name) is not None for name in names)

    def positions(self, names: Sequence[str]) -> list[int]:
        """Return the numbers of columns.

        Raises:
            UserError: a column is missing; the message says which there are, and how the file was read.
        """
        found = [self.position(name) for name in names]
        if None in found:
            between = SEPARATORS.get(self.separator, repr(self.separator))
            written = f" ({self.encoding.removesuffix('-sig').upper()}, separated by {between})"
            there = ", ".join(self.names)[:300]
            raise UserError(
                f"{self.file} has no column {names[found.index(None)]!r}; "
                f"it has: {there + written if there else 'nothing'}"
            )
        return [number for number in found if number is not None]


def look_at(file: Path, wanted: Sequence[str] = (), names: Sequence[str] | None = None) -> TextTable:
    """Find out how a text table is written.

    Args:
        file: the table.
        wanted: names of columns; the separator under which the most of them are found is taken.
        names: names of all columns where the file has no header line; None reads them from it.

    Raises:
        UserError: the file cannot be read, or is no text.
    """
    encoding, lines = _beginning(file)
    above = next((number for number, line in enumerate(lines) if line.strip()), 0)
    separators = tuple(SEPARATORS)
    if names is None and (said := SEPARATOR_LINE.fullmatch(lines[above].strip())):
        separators, above = (said[1],), above + 1
    rows = [line for line in lines[above:] if line.strip()][:LINES] or [""]
    if names is not None:
        best = max(separators, key=lambda one: sum(len(_cells(row, one)) == len(names) for row in rows))
        return TextTable(file, encoding, best, tuple(names), above, headed=False)
    headers = [TextTable(file, encoding, one, _cells(rows[0], one), above, headed=True) for one in separators]
    return max(headers, key=lambda one: (sum(one.has(name) for name in wanted), len(one.names)))


def has_columns(file: Path, names: Sequence[str]) -> bool:
    """Return whether a file is a text table with columns of these names."""
    try:
        return look_at(file, names).has(*names)
    except UserError:
        return False


def read_csv(
    file: Path, wanted: Sequence[str], faults: list[Fault], names: Sequence[str] | None = None
) -> pa.Table:
    """Read columns of a text table as text, all at once; see ``stream_csv``."""
    batches = stream_csv(file, wanted, faults, names)
    return pa.Table.from_batches(batches, pa.schema([(name, pa.string()) for name in wanted]))


def stream_csv(
    file: Path, wanted: Sequence[str], faults: list[Fault], names: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    r"""Read columns of a text table as text, batch by batch; bytes that are none become escapes: \xff.

    Args:
        file: the table; see ``look_at``.
        wanted: names of the columns to read, in any case of letters; the batches have them as they stand here.
        faults: receives a fault for each line with too few or too many cells.
        names: names of all columns where the file has no header line; None reads them from it.

    Raises:
        UserError: the file is no text table, or lacks a column.
    """
    table = look_at(file, wanted, names)
    columns = [str(number) for number in table.positions(wanted)]

    def broken(row: Any) -> str:
        cells = f"{row.actual_columns} cells instead of {row.expected_columns}"
        faults.append(Fault("broken_line", row.text.split(table.separator)[0][:200], f"{file.name}: {cells}"))
        return "skip"

    try:
        with file.open("rb") as stream:
            batches = pyarrow.csv.open_csv(
                codecs.EncodedFile(stream, "utf-8", table.encoding, errors="backslashreplace"),
                pyarrow.csv.ReadOptions(
                    column_names=[str(number) for number in range(len(table.names))],
                    skip_rows=table.lines_above,
                    skip_rows_after_names=int(table.headed),
                ),
                pyarrow.csv.ParseOptions(delimiter=table.separator, invalid_row_handler=broken),
                pyarrow.csv.ConvertOptions(
                    include_columns=list(dict.fromkeys(columns)), column_types=dict.fromkeys(columns, pa.string())
                ),
            )
            for batch in batches:
                yield pa.RecordBatch.from_arrays([batch[number] for number in columns], list(wanted))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} cannot be read as CSV: {error}") from error


def list_rows(file: Path) -> Iterator[list[str]]:
    """Yield the cells of each line of a list, whatever separates them: spaces, or what separates tables' cells.

    Raises:
        UserError: the file cannot be read, or is no text.
    """
    try:
        text = text_of(file, errors="backslashreplace")
    except (OSError, UnicodeError) as error:
        raise UserError(f"{file} cannot be read: {_reason(error)}") from error
    lines = [line.strip() for line in re.split(LINE_END, text) if line.strip()]
    separator = next((one for one in SEPARATORS if lines and all(one in line for line in lines[:LINES])), None)
    for line in lines:
        yield [cell.strip().strip("\"'") for cell in line.split(separator)]


def text_of(file: Path, errors: str = "strict") -> str:
    """Return the text of a small file in UTF-8, or in the encoding of its byte order mark."""
    data = file.read_bytes()
    return data.decode(_encoding(data), errors)


def _encoding(data: bytes) -> str:
    """Return the encoding of the byte order mark that some bytes begin with.

    Raises:
        UnicodeError: they are no text.
    """
    encoding = next((name for mark, name in ENCODINGS.items() if data.startswith(mark)), "utf-8")
    beginning = data[:BEGINNING]
    if encoding == "utf-8" and beginning.count(b"\0") > len(beginning) / 10:  # a few are a damaged row
        raise UnicodeError("it has zero bytes, as UTF-16 without a byte order mark or a file that is no text has")
    return encoding


def _beginning(file: Path) -> tuple[str, list[str]]:
    """Return the encoding of a text file and its first lines.

    Raises:
        UserError: the file cannot be read, or is no text.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(BEGINNING)
        encoding = _encoding(data)
    except (OSError, UnicodeError) as error:
        raise UserError(f"{file} cannot be read: {_reason(error)}") from error
    lines = re.split(LINE_END, codecs.getincrementaldecoder(encoding)("backslashreplace").decode(data))
    return encoding, lines[:-1] if len(data) == BEGINNING and len(lines) > 1 else lines  # the last may be cut off


def _reason(error: OSError | UnicodeError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _cells(line: str, separator: str) -> tuple[str, ...]:
    """Return the cells of a line without the quotes and spaces around them; none of an empty line."""
    cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    return tuple(cell.strip().strip("\"'").strip() for cell in cells)
