"""Read a table of runs as it stands: a store, a CSV, JSON or Parquet file -> columns of raw cells with row names.

Nothing is interpreted here beyond the container format; :mod:`algoprog.scaling.runs.load` gives the cells their meaning.
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from algoprog.scaling.errors import InputError

STORE = "store.sqlite"
SQLITE_MAGIC, PARQUET_MAGIC = b"SQLite format 3\0", b"PAR1"
NEED = "the columns arch, flops, loss"


@dataclass(frozen=True)
class RawTable:
    """``columns`` by name, cells as found; ``rows`` names each row the way its file counts ("line 7", "row 6").

    ``ours``: from a store of this package, whose units and states are known. ``advice``: where missing columns of this
    kind of table come from.
    """

    columns: dict[str, list[object]]
    rows: list[str]
    where: str
    ours: bool = False
    advice: str = ""


def read_table(path: Path, keep: Sequence[str] = ()) -> RawTable:
    """Read ``path``: a folder with a store, a store file, a Parquet file (by its first bytes), a JSON file (by its
    first character), or else a CSV file.

    ``keep``: names that a store also looks up in the configs of its runs, as ``model.activation``. Raises InputError
    for anything that is not one of these files, with the reason.
    """
    if path.is_dir():
        if not (path / STORE).is_file():
            remedy = "give a sweep's directory, or a CSV or Parquet file"
            raise InputError(f"no {STORE} in this directory", where=path, remedy=remedy)
        return _read_store(path / STORE, keep)
    if not path.exists():
        remedy = "give a sweep's directory, or a CSV or Parquet file"
        raise InputError("no such file or directory", where=path, remedy=remedy)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path) from None
    if not data.strip():
        raise InputError("the file is empty", where=path, expected=f"a table with {NEED}")
    if data.startswith(SQLITE_MAGIC):
        return _read_store(path, keep)
    if data.startswith(PARQUET_MAGIC):
        return _read_parquet(data, path)
    text = _decode(data, path)
    return _read_json(text, path) if text.lstrip()[:1] in ("[", "{") else _read_csv(text, path)


def _decode(data: bytes, path: Path) -> str:
    if b"\0" in data:
        raise InputError(
            "this is a binary file", where=path, expected="CSV or JSON text in UTF-8, a Parquet file or a store"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"not UTF-8 text: bad byte at position {error.start}", where=path, remedy="save the file as CSV in UTF-8"
        ) from None


def _read_csv(text: str, path: Path) -> RawTable:
    """Rows are named by the line they start on, as an editor counts lines; blank lines are skipped."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    cells: list[list[str]] = []
    rows: list[str] = []
    line = 1
    try:
        for record in reader:
            here, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in record):
                continue
            if header is None:
                header = [cell.strip() for cell in record]
                continue
            if len(record) != len(header):
                expected = f"{len(header)} cells, as in the header"
                raise InputError(
                    "wrong number of cells", where=f"{path} line {here}", got=len(record), expected=expected
                )
            cells.append(record)
            rows.append(f"line {here}")
    except csv.Error as error:
        raise InputError(f"not readable as CSV: {error}", where=f"{path} line {reader.line_num}") from None
    header = header or []
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise InputError(
            "one column only",
            where=path,
            got=header[0],
            expected="commas between the cells",
            remedy="save as comma-separated",
        )
    return _table(header, cells, rows, str(path))


def _read_json(text: str, path: Path) -> RawTable:
    """A list of objects, one object per line, or columns of equal length (by position or by pandas' row labels)."""
    try:
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deeply
        raise InputError(f"not readable as JSON: {error}", where=path) from None
    if isinstance(value, dict) and value and all(isinstance(cells, list | dict) for cells in value.values()):
        columns = {
            str(name): list(cells.values()) if isinstance(cells, dict) else cells for name, cells in value.items()
        }
        if len({len(cells) for cells in columns.values()}) > 1:
            raise InputError("columns of different lengths", where=path, expected="one cell per row in each")
        count = len(next(iter(columns.values())))
        return RawTable(columns, _numbered(count), str(path))
    records = value if isinstance(value, list) else [value]
    if not all(isinstance(record, dict) for record in records):
        raise InputError("no table", where=path, expected="a list of objects, one per row")
    names = list(dict.fromkeys(name for record in records for name in record))
    return _table(
        names, [[record.get(name) for name in names] for record in records], _numbered(len(records)), str(path)
    )


def _read_store(path: Path, keep: Sequence[str]) -> RawTable:
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            cursor = connection.execute("SELECT * FROM points")
            header = [column[0] for column in cursor.description]
            cells = cursor.fetchall()
            settings = _settings(connection, [name for name in keep if name not in header], len(cells))
        finally:
            connection.close()
    except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite quotes damaged bytes in its messages
        expected = f"the store of a sweep, with a view points that has {NEED}"
        raise InputError(f"not a readable store: {error}", where=path, expected=expected) from None
    table = _table(header, cells, _numbered(len(cells)), str(path))
    return RawTable(table.columns | settings, table.rows, table.where, ours=True)


def _settings(connection: sqlite3.Connection, names: Sequence[str], count: int) -> dict[str, list[object]]:
    """Config keys of the runs in the order of the view ``points``; a key that no run has is left out."""
    found: dict[str, list[object]] = {}
    for name in names:
        query = "SELECT json_extract(runs.config, ?) FROM points JOIN runs ON runs.digest = points.run ORDER BY runs.position"
        path = "$." + ".".join(json.dumps(part) for part in name.split("."))
        cells = [row[0] for row in connection.execute(query, (path,))]
        if len(cells) == count and any(cell is not None for cell in cells):
            found[name] = cells
    return found


def _read_parquet(data: bytes, path: Path) -> RawTable:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InputError(
            "reading Parquet needs pyarrow", where=path, remedy='pip install "algoprog[parquet]", or give a CSV file'
        ) from None
    try:
        table = parquet.read_table(pyarrow.BufferReader(data))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"not a readable Parquet file: {error}", where=path) from None
    cells = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return _table(list(table.column_names), cells, _numbered(table.num_rows), str(path))


def _numbered(count: int) -> list[str]:
    return [f"row {i + 1}" for i in range(count)]


def _table(header: list[str], cells: Sequence[Sequence[object]], rows: list[str], where: str) -> RawTable:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"column {', '.join(twice)} occurs more than once", where=where)
    columns: dict[str, list[object]] = {name: [row[i] for row in cells] for i, name in enumerate(header)}
    return RawTable(columns, rows, where)
