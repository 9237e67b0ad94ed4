"""The results of a sweep on disk: no row that was added is lost, and none is there twice.

Rows are appended to a journal, which is flushed to the disk, and moved from it to parts in Parquet. A row is
in the journal, in a part or, after a crash between the two, in both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stas_neuro.errors import InputError
from stas_neuro.extras import needs
from stas_neuro.sweeper.plan import Plan, uniform
from stas_neuro.sweeper.work import Row, to_disk

if TYPE_CHECKING:
    import pyarrow

RESULTS, CELLS, JOURNAL = "results.parquet", "cells", "journal.jsonl"
PART_ROWS = 1 << 14
"""Rows of a part, and the most in memory."""
UNKNOWN, DONE, FAILED = 0, 1, 2
"""States of a cell."""


class Store:
    """The rows of a plan in a folder.

    Parameters
    ----------
    folder : Path
    plan : Plan

    Raises
    ------
    InputError
        If pyarrow is missing, or the rows cannot be read.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        with needs("parquet"):
            import pyarrow.dataset
            import pyarrow.parquet  # noqa: F401 - imported where it is used, too
        self.plan = plan
        self._results = folder / RESULTS
        self._parts = folder / CELLS
        self._parts.mkdir(parents=True, exist_ok=True)
        self.state = np.zeros(plan.count, np.uint8)
        self.first_error: str | None = None
        """The error of a cell that failed."""
        for part in self._part_files():
            cells, failed = self._read_states(part)
            self.state[cells] = np.where(failed, FAILED, DONE)
        self._rows: list[Row] = []
        self._journal = self._parts / JOURNAL
        self._restore()
        self._stream = self._journal.open("ab")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    @property
    def done(self) -> int:
        """Number of cells with a row."""
        return int(np.count_nonzero(self.state))

    @property
    def failed(self) -> int:
        """Number of cells whose row is an error."""
        return int(np.count_nonzero(self.state == FAILED))

    def missing(self, cells: range) -> Iterator[int]:
        """Yield the cells of a range that have no row."""
        found = np.flatnonzero(self.state[cells.start : cells.stop] == UNKNOWN)
        return (cells.start + int(at) for at in found)

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows; they are on disk when this returns."""
        self._stream.write(b"".join(_line(row) for row in rows))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._take(rows)
        if len(self._rows) >= PART_ROWS:
            self._move()

    def forget_failed(self) -> None:
        """Remove the rows of cells that failed, so that they are computed again."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        self._move()
        for part in self._part_files():
            if not self._read_states(part)[1].any():
                continue
            table = pq.read_table(part)
            _write_parquet(table.filter(pc.is_null(table["error"])), part)
        self.state[self.state == FAILED] = UNKNOWN
        self.first_error = None

    def export(self) -> Path:
        """Write the results as one file, with a row for each cell in order, and the axes as columns."""
        import pyarrow.dataset as ds
        import pyarrow.parquet as pq

        self._move()
        parts = self._part_files()
        schema = _common_schema([pq.read_schema(part) for part in parts])
        rows = ds.dataset([str(part) for part in parts], schema=schema)
        target, fresh = self._results, self._results.with_suffix(".tmp")
        writer = None
        try:
            for first in range(0, self.plan.count, PART_ROWS):
                chosen = (ds.field("cell") >= first) & (ds.field("cell") < first + PART_ROWS)
                table = self._with_axes(rows.to_table(filter=chosen).sort_by("cell"))
                if writer is None:
                    writer = pq.ParquetWriter(fresh, table.schema)
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()
        to_disk(fresh)
        fresh.replace(target)
        to_disk(target.parent, nested=False)
        return target

    def _with_axes(self, table: pyarrow.Table) -> pyarrow.Table:
        """Insert the axes behind the number of the cell."""
        import pyarrow as pa

        cells = table["cell"].to_numpy()
        for place, each in enumerate(self.plan.columns, 1):
            values = pa.array(each.values)
            table = table.add_column(place, each.name, values.take(pa.array(each.places(cells))))
        return table

    def _part_files(self) -> list[Path]:
        return sorted(self._parts.glob("part-*.parquet"))

    def _read_states(self, part: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(part, columns=["cell", "error"])
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{part}: {error}", "use --force to compute all cells again") from error
        failed = pc.is_valid(table["error"]).to_numpy()
        if failed.any() and self.first_error is None:
            self.first_error = table["error"].drop_null()[0].as_py()
        return table["cell"].to_numpy(), failed

    def _restore(self) -> None:
        """Read the journal; a line that was not written completely is removed."""
        if not self._journal.exists():
            return
        content = self._journal.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        rows = [Row(**json.loads(line)) for line in whole.splitlines()]
        if len(whole) < len(content):
            with self._journal.open("r+b") as stream:
                stream.truncate(len(whole))
        self._take([row for row in rows if self.state[row.cell] == UNKNOWN])

    def _take(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.state[row.cell] = DONE if row.error is None else FAILED
            self.first_error = self.first_error or row.error
            self._rows.append(row)

    def _move(self) -> None:
        """Move the rows of the journal to a part."""
        if self._rows:
            number = (
                max((int(part.stem.removeprefix("part-")) for part in self._part_files()), default=-1) + 1
            )
            _write_parquet(_table(self._rows), self._parts / f"part-{number:06d}.parquet")
            self._rows = []
        self._stream.truncate(0)
        os.fsync(self._stream.fileno())


def _line(row: Row) -> bytes:
    return json.dumps(vars(row), allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _table(rows: Sequence[Row]) -> pyarrow.Table:
    import pyarrow as pa

    rows = sorted(rows, key=lambda row: row.cell)
    columns: dict[str, Any] = {
        "cell": pa.array([row.cell for row in rows], pa.int64()),
        "error": pa.array([row.error for row in rows], pa.string()),
        "seconds": pa.array([row.seconds for row in rows], pa.float64()),
    }
    for name in dict.fromkeys(name for row in rows for name in row.values):
        columns[name] = pa.array(uniform([row.values.get(name) for row in rows]))
    return pa.table(columns)


def _common_schema(schemas: Sequence[pyarrow.Schema]) -> pyarrow.Schema:
    """Return the columns of all parts; numbers become wider where parts differ, other types text."""
    import pyarrow as pa

    found: dict[str, pyarrow.DataType] = {}
    for field in (field for schema in schemas for field in schema):
        before = found.setdefault(field.name, field.type)
        if before != field.type:
            numbers = {pa.int64(), pa.float64()}
            found[field.name] = pa.float64() if {before, field.type} <= numbers else pa.string()
    return pa.schema(list(found.items()))


def _write_parquet(table: pyarrow.Table, path: Path) -> None:
    """Write a file that is complete and on disk as soon as it has its name."""
    import pyarrow.parquet as pq

    fresh = path.with_suffix(".tmp")
    pq.write_table(table, fresh)
    to_disk(fresh)
    fresh.replace(path)
    to_disk(path.parent, nested=False)
