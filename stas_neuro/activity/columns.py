"""activity.parquet: the counts of a record in columns, small and fast to read; read and written with pyarrow.

Each row is a count above 0: ``layer``, ``step``, ``kind``, ``image`` and ``count``. Rows whose ``image`` is
null are sums over all images of the run. What else a record has is in the metadata of the file, as the JSON
of activity.json without events.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.activity.file import File, check_size, document_of, parse_document, record_of
from stas_neuro.activity.record import COUNT_LIMIT, KINDS, TOTAL_LIMIT, Activity, Counts
from stas_neuro.documents import BadDocument, open_file, reason
from stas_neuro.errors import InputError
from stas_neuro.extras import needs
from stas_neuro.files import write_atomically

_DOCUMENT = b"stas-neuro"
"""Key of the metadata."""
_COLUMNS = ("layer", "step", "kind", "image", "count")
_REMEDY = "write it again with stas-neuro"


def check_installed() -> None:
    """Raise InputError, before any work, where pyarrow is not installed."""
    with needs("parquet"):
        import pyarrow.parquet  # noqa: F401


def write_columns(activity: Activity, path: Path) -> None:
    """Write a record as Parquet, atomically; raises InputError without pyarrow."""
    with needs("parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    document = document_of(activity) | {"events": []}
    words = pa.dictionary(pa.int32(), pa.string())
    kinds = zip(_COLUMNS, (words, words, words, pa.int32(), pa.int64()), strict=True)
    schema = pa.schema(list(kinds), metadata={_DOCUMENT: json.dumps(document)})
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for kind in KINDS:
            for image, row, step, count in _rows(activity, kind):
                columns = [
                    pa.DictionaryArray.from_arrays(
                        pa.array(row, pa.int32()), [x.name for x in activity.layers]
                    ),
                    pa.DictionaryArray.from_arrays(pa.array(step, pa.int32()), list(activity.steps)),
                    pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(row), np.int32)), [kind]),
                    pa.array(image, pa.int32(), mask=image < 0),
                    pa.array(count, pa.int64()),
                ]
                writer.write_table(pa.table(columns, schema=schema))
    write_atomically(path, sink.getvalue().to_pybytes())


def _rows(activity: Activity, kind: str) -> Iterator[tuple[NDArray[Any], ...]]:
    """Return images, layers, steps and counts of a kind: of single images, and the sums with image -1."""
    counts, sums = activity.counts[kind], activity.sums(kind)
    if counts.any():
        at = np.nonzero(counts.transpose(1, 2, 0))  # alike counts beside each other take less space
        yield at[2].astype(np.int32), at[0], at[1], counts.transpose(1, 2, 0)[at]
    if sums.any():
        row, step = np.nonzero(sums)
        yield np.full(len(row), -1, np.int32), row, step, sums[row, step]


def read_columns(path: Path) -> Activity:
    """Read a record from Parquet.

    Raises InputError without pyarrow, or when the file is missing, damaged, or has another format.
    """
    with needs("parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    try:
        with open_file(path) as stream, pq.ParquetFile(stream) as parquet:
            file = _document(parquet, str(path))
            shape = check_size(file, os.fstat(stream.fileno()).st_size * _RATIO)
            filled = _Filled(file, shape, str(path))
            for group in range(parquet.num_row_groups):
                filled.take(parquet.read_row_group(group, columns=list(_COLUMNS)))
    except (OSError, BadDocument, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable Parquet file ({reason(error)})", _REMEDY) from error
    try:
        return record_of(file, filled.counts, filled.sums)
    except InputError as error:
        raise InputError(f"{path}: {error.what}", error.remedy) from error


_RATIO = 1 << 10
"""Counts that a byte may stand for: equal ones are stored once."""


def _document(parquet: Any, where: str) -> File:
    metadata = parquet.schema_arrow.metadata or {}
    if _DOCUMENT not in metadata or parquet.schema_arrow.names != list(_COLUMNS):
        raise InputError(f"{where}: is no activity record", "use a file written by run --activity parquet")
    file = parse_document(metadata[_DOCUMENT], where)
    if file.events or (file.whole is not None and file.whole.events):
        raise InputError(f"{where}: has events in its metadata", _REMEDY)
    return file


class _Filled:
    """Counts and sums, filled by rows."""

    def __init__(self, file: File, shape: tuple[int, int, int], where: str) -> None:
        self.shape, self.where = shape, where
        self.names = [layer.name for layer in file.layers], file.steps, KINDS
        self.counts: dict[str, Counts] = {}
        self.sums: dict[str, Counts] = {}

    def take(self, rows: Any) -> None:
        """Enter the counts of some rows."""
        layer, step, kind = (
            self._places(rows[name].combine_chunks(), known)
            for name, known in zip(_COLUMNS[:3], self.names, strict=True)
        )
        image = rows["image"].combine_chunks()
        absent, count = image.is_null().to_numpy(zero_copy_only=False), rows["count"]
        images, counts = image.fill_null(-1).to_numpy(), count.combine_chunks().fill_null(-1).to_numpy()
        if images.size and (images[~absent] < 0).any() | (images >= self.shape[0]).any():
            raise InputError(f"{self.where}: has counts of image {images.max()} of {self.shape[0]}", _REMEDY)
        if counts.size and not 0 <= counts.min() <= counts.max() <= TOTAL_LIMIT:
            what = f"{self.where}: counts are in {counts.min()}..{counts.max()}"
            raise InputError(what, f"use 0 to {COUNT_LIMIT}")
        for number in np.unique(kind).tolist():
            of = kind == number
            one, sums = of & ~absent, of & absent
            if one.any():
                into = self.counts.setdefault(KINDS[number], np.zeros(self.shape, np.int64))
                into[images[one], layer[one], step[one]] = counts[one]
            if sums.any():
                total = self.sums.setdefault(KINDS[number], np.zeros(self.shape[1:], np.int64))
                total[layer[sums], step[sums]] = counts[sums]

    def _places(self, column: Any, known: Any) -> NDArray[np.int64]:
        """Return which of the known names each row has."""
        place = {name: number for number, name in enumerate(known)}
        words = column.dictionary.to_pylist()
        if column.null_count or any(word not in place for word in words):
            raise InputError(f"{self.where}: a row names what the record does not have", _REMEDY)
        places = np.array([place[word] for word in words], np.int64)
        return np.asarray(places[column.indices.to_numpy()])
