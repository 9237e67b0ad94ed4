"""Data sets of the library datasets of Hugging Face, as `save_to_disk` writes them; read with pyarrow."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.data.folders import part_of
from stas_neuro.data.images import LabelledImages
from stas_neuro.data.labelling import labelled
from stas_neuro.data.naming import IMAGES, LABELS
from stas_neuro.data.pictures import decode, form_of
from stas_neuro.data.pixels import Array, Index, Pixels
from stas_neuro.documents import BadDocument, open_file, parse_json, reason, shown
from stas_neuro.errors import InputError
from stas_neuro.extras import needs

STATE, INFO, DICTIONARY = "state.json", "dataset_info.json", "dataset_dict.json"
_REMEDY = "save it again with save_to_disk"
_LARGEST = 1 << 26
"""Largest size in bytes of these files."""


def is_arrow_directory(directory: Path) -> bool:
    """Tell whether a directory was written by save_to_disk."""
    return any((directory / name).is_file() for name in (STATE, DICTIONARY))


def read_arrow_directory(directory: Path, split: str) -> LabelledImages:
    """Open a data set, or a part of a dictionary of them.

    Raises InputError where it is damaged, has no such part or no column of images.
    """
    place = directory if (directory / STATE).is_file() else part_of(directory, split)
    if not (place / STATE).is_file():
        raise InputError(f"{place}: has no {STATE}", _REMEDY)
    state, features = _document(place / STATE), _features(place)
    if state.get("_indices_data_files"):
        what = f"{place}: its rows are chosen by an index"
        raise InputError(what, "call flatten_indices() before save_to_disk")
    table = _table([place / name for name in _data_files(state, place)])
    image = _column(table.column_names, features, IMAGES, ("Image", "Array2D", "Array3D", "Array4D"))
    if image is None:
        listed = shown(", ".join(table.column_names), 200)
        raise InputError(f"{place}: has no column of images, only {listed}", "name the column image")
    if not len(table):
        raise InputError(f"{place}: has no images", "use at least one")
    label = _column(table.column_names, features, LABELS, ("ClassLabel",))
    labels = None if label is None else _labels(table[label])
    named = () if label is None else features.get(label, {}).get("names") or ()
    classes = tuple(str(name) for name in named)
    return labelled(ArrowImages(table[image], place), labels, classes, str(directory))


def _data_files(state: Mapping[str, Any], place: Path) -> list[str]:
    """Return the names of the files that have the rows; raises InputError if they are elsewhere."""
    files = state.get("_data_files")
    names = (
        [file.get("filename") for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    )
    inside = [name for name in names if isinstance(name, str) and Path(name).name == name]
    if not names or len(inside) < len(names):
        raise InputError(f"{place / STATE}: lists no files of its directory", _REMEDY)
    return inside


class ArrowImages(Pixels):
    """A column of images, in files that are mapped into memory: encoded pictures, or lists of numbers."""

    def __init__(self, column: Any, directory: Path) -> None:
        self.column, self.directory = column, directory
        first = self._row(0)
        self.form = None
        if isinstance(first, Mapping):
            self.form = form_of(*self._encoded(first, 0))
            shape, kind = self.form.shape, np.dtype(np.uint8)
        else:
            values = self._numbers(first, 0)
            shape, kind = values.shape, values.dtype
        self.shape, self.dtype = (len(column), *shape), kind

    def read(self, index: Index) -> Array:
        """Decode images."""
        images = np.empty((len(index), *self.shape[1:]), self.dtype)
        for place, number in enumerate(index.tolist()):
            row = self._row(number)
            if self.form is not None and isinstance(row, Mapping):
                images[place] = decode(*self._encoded(row, number), self.form)
                continue
            values = self._numbers(row, number)
            if values.shape != self.shape[1:]:
                what = (
                    f"{self.directory}: image {number} has shape {values.shape}, the first {self.shape[1:]}"
                )
                raise InputError(what, "scale or crop all images to one size, that of the model")
            images[place] = values
        return images

    def _row(self, number: int) -> Any:
        return self.column[number].as_py()

    def _encoded(self, row: Mapping[str, Any], number: int) -> tuple[io.BytesIO, str]:
        name = f"{self.directory}: image {number}"
        content, path = row.get("bytes"), row.get("path")
        if isinstance(content, bytes):
            return io.BytesIO(content), name
        if not isinstance(path, str):
            raise InputError(f"{name} has neither bytes nor a path", _REMEDY)
        try:
            with open_file(self.directory / path) as stream:
                return io.BytesIO(stream.read()), f"{name} ({path})"
        except (OSError, BadDocument) as error:
            what = f"{name}: {path}: {reason(error)}"
            raise InputError(what, "restore the file, or save the data set with its images") from error

    def _numbers(self, row: Any, number: int) -> Array:
        try:
            values = np.array(row)
        except ValueError:
            values = np.array(None)
        if values.dtype.kind not in "biuf":
            what = f"{self.directory}: image {number} is neither a picture nor an array of numbers"
            raise InputError(what, "store images as the feature Image, or as Array3D")
        return values


def _table(paths: Sequence[Path]) -> Any:
    """Map files of Arrow's stream format into memory, and return them as one table."""
    with needs("parquet"):
        import pyarrow as pa
    try:
        for path in paths:
            open_file(path).close()
        tables = [pa.ipc.open_stream(pa.memory_map(str(path))).read_all() for path in paths]
        return pa.concat_tables(tables)
    except (OSError, BadDocument, pa.ArrowException) as error:
        raise InputError(f"{paths[0].parent}: {reason(error)}", _REMEDY) from error


def _column(
    names: Sequence[str], features: Mapping[str, Any], words: Sequence[str], kinds: Sequence[str]
) -> str | None:
    """Return the first column with a feature of some kinds, or else with one of some names."""
    typed = [name for name in names if features.get(name, {}).get("_type") in kinds]
    known = {name.lower(): name for name in names}
    named = [known[word] for word in words if word in known]
    return next((name for name in named if name in typed), next(iter([*typed, *named]), None))


def _labels(column: Any) -> NDArray[Any] | None:
    """Return labels; None where all are -1 or absent, as in test sets whose labels are secret."""
    if column.null_count == len(column):
        return None
    values = np.array(column.to_pylist())
    return None if values.dtype.kind == "i" and (values == -1).all() else values


def _features(directory: Path) -> dict[str, dict[str, Any]]:
    features = _document(directory / INFO).get("features") if (directory / INFO).is_file() else None
    if not isinstance(features, dict):
        return {}
    return {name: each for name, each in features.items() if isinstance(each, dict)}


def _document(path: Path) -> dict[str, Any]:
    try:
        with open_file(path, _LARGEST) as stream:
            document = parse_json(stream.read())
    except (OSError, BadDocument) as error:
        raise InputError(f"{path}: {reason(error)}", _REMEDY) from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: is not a JSON object", _REMEDY)
    return document
