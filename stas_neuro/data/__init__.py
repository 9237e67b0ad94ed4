"""Labelled images from files of many kinds, from Python, and from data sets that have a name.

`load_data` opens them. Large ones are read when they are used, a batch at a time (`Pixels`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stas_neuro.data.arrow import is_arrow_directory, read_arrow_directory
from stas_neuro.data.events import READERS, EventFiles, parse_binning
from stas_neuro.data.folders import IMAGE_FILES, list_files, part_of
from stas_neuro.data.idx import is_idx_directory, read_idx_directory
from stas_neuro.data.images import (
    MOST_CLASSES,
    LabelledImages,
    PreparedImages,
    check_pixels,
    check_range,
    normalise,
)
from stas_neuro.data.items import as_images
from stas_neuro.data.labelling import labelled
from stas_neuro.data.named import NAMED
from stas_neuro.data.numpy_files import is_npy_directory, read_npy_directory, read_numpy_file
from stas_neuro.data.pictures import ImageFiles
from stas_neuro.data.pixels import Images, Pixels, blocks, chosen
from stas_neuro.documents import reason
from stas_neuro.errors import InputError, unknown

KINDS = (
    "a directory of IDX files, of .npy files, of class folders with images or event recordings, or of a data "
    "set saved by Hugging Face's datasets; or an .npz or .npy file"
)


def load_data(data: Any, split: str = "test") -> LabelledImages:
    """Open images of a named data set, of files, or from Python (docs/data.md).

    Large data are read when they are used. Errors in them are raised then.

    Parameters
    ----------
    data
        A name of `NAMED`; a path, for event recordings with how they are binned, as in
        ``recordings:bins=10``; or data from Python, see `as_images`.
    split
        ``train`` or ``test``. Data whose names have no such parts are used for both.

    Raises
    ------
    InputError
        If the data are missing, malformed or empty.
    """
    if not isinstance(data, str | Path):
        return as_images(data)
    if str(data) in NAMED:
        return NAMED[str(data)](split)
    path, options = _path(str(data))
    if path.is_dir():
        return _directory(path, options, split)
    if options:
        raise InputError(
            f"{path}: is no directory of event recordings, so ':{options}' has no use", "leave it out"
        )
    if path.suffix in (".npy", ".npz") or path.is_file():
        return read_numpy_file(path, split)
    raise unknown("data set or file", str(data), NAMED, KINDS)


def data_path(spec: str | None) -> Path | None:
    """Return the file or directory that `load_data` reads; None for a named data set, and for no data."""
    return None if spec is None or spec in NAMED else _path(spec)[0]


def _path(spec: str) -> tuple[Path, str]:
    """Divide a text into a path and the options of event recordings, which may follow a colon."""
    path, colon, options = spec.rpartition(":")
    return (Path(path), options) if colon and "=" in options and not Path(spec).exists() else (Path(spec), "")


def _directory(directory: Path, options: str, split: str) -> LabelledImages:
    """Open a directory by what it has."""
    try:
        for has, read in _DIRECTORIES.items():
            if has(directory) and not options:
                return read(directory, split)
        place = part_of(directory, split)
        for has, read in _DIRECTORIES.items():
            if place != directory and has(place) and not options:
                return read(place, split)
        return _files(place, directory, options)
    except OSError as error:
        raise InputError(
            f"{error.filename or directory}: {reason(error)}", "use a readable directory"
        ) from error


_DIRECTORIES: Mapping[Callable[[Path], bool], Callable[[Path, str], LabelledImages]] = {
    is_idx_directory: read_idx_directory,
    is_arrow_directory: read_arrow_directory,
    is_npy_directory: read_npy_directory,
}
"""Readers of directories, by what tells that a directory is of their kind."""


def _files(place: Path, directory: Path, options: str) -> LabelledImages:
    """Open images or recordings in class folders: those of a part of data, or of all of a directory."""
    source = str(directory)
    pictures, recordings = (
        list_files(place, endings, directory) for endings in (IMAGE_FILES, tuple(READERS))
    )
    if pictures.paths and recordings.paths:
        what = f"{source}: has images ({pictures.paths[0]}) and event recordings ({recordings.paths[0]})"
        raise InputError(what, "keep them in separate directories")
    if recordings.paths:
        frames = EventFiles(recordings.paths, parse_binning(options))
        named = f"{source}:{options}" if options else source  # by which these frames can be loaded again
        return labelled(frames, recordings.labels, recordings.classes, named)
    if options:
        raise InputError(f"{source}: has no event recordings, so ':{options}' has no use", "leave it out")
    if not pictures.paths:
        raise InputError(f"{source}: is a directory without images", f"use {KINDS}")
    return labelled(ImageFiles(pictures.paths), pictures.labels, pictures.classes, source)


__all__ = [
    "KINDS",
    "MOST_CLASSES",
    "NAMED",
    "Images",
    "LabelledImages",
    "Pixels",
    "PreparedImages",
    "as_images",
    "blocks",
    "check_pixels",
    "check_range",
    "chosen",
    "data_path",
    "load_data",
    "normalise",
]
