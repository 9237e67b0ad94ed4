"""Images and event recordings as single files, in a folder for each class."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stas_neuro.data.naming import SPLITS, split_among
from stas_neuro.documents import reason
from stas_neuro.errors import InputError

IMAGE_FILES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Endings of images."""


@dataclass(frozen=True)
class Files:
    """Files of a part of data; ``labels`` is None if they are in no folders.

    The files of each class are sorted by path. Classes alternate, so that the first files are of every class
    in the share that it has of all.
    """

    paths: tuple[Path, ...]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]


def part_of(directory: Path, split: str) -> Path:
    """Return the folder of a part, such as ``train``, or the directory itself if it has no parts.

    Raises InputError if it has only the other part.
    """
    folders = _folders(directory)
    if (found := split_among(folders, split)) is not None:
        return directory / found
    if folders and all(any(name.lower() in names for names in SPLITS.values()) for name in folders):
        what = f"{directory}: has no folder {split}, only {', '.join(folders)}"
        raise InputError(what, f"name the folder of its images {split}, or give one of these folders")
    return directory


def list_files(directory: Path, endings: Collection[str], data: Path) -> Files:
    """List the files with some endings: those of each folder are a class, named like the folder.

    Without folders they have no labels. Folders and files whose names begin with a dot are ignored. Raises
    InputError where there are files both in folders and beside them, or beside a part of the data.
    """
    try:
        beside = [] if data == directory else _walk(data, endings, deep=False)
        loose = _walk(directory, endings, deep=False)
        names = _folders(directory)
        found = [_walk(directory / name, endings, deep=True) for name in names]
    except OSError as error:
        raise InputError(f"{error.filename}: {reason(error)}", "use a readable directory") from error
    if beside and (loose or any(found)):
        what = f"{_named(beside)} beside the folder {directory.name}, in no part of the data"
        raise InputError(what, "move them into a part, or elsewhere")
    if not any(found):
        return Files(tuple(loose), None, ())
    if loose:
        what = f"{_named(loose)} beside the folders of the classes {', '.join(names)}, in none of them"
        raise InputError(what, "move them into the folders of their classes, or elsewhere")
    sizes = [len(paths) for paths in found]
    labels = np.repeat(np.arange(len(names)), sizes)
    files = [path for paths in found for path in paths]
    order = np.concatenate([(np.arange(size) + 0.5) / max(size, 1) for size in sizes]).argsort(kind="stable")
    return Files(tuple(files[place] for place in order), labels[order], tuple(names))


def _named(files: list[Path]) -> str:
    return f"{files[0]}: is" if len(files) == 1 else f"{files[0]} (the first of {len(files)} such files): is"


def _folders(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.is_dir() and path.name[0] != ".")


def _walk(directory: Path, endings: Collection[str], *, deep: bool) -> list[Path]:
    found: list[Path] = []
    for place, folders, files in os.walk(directory, onerror=_refuse):
        folders[:] = sorted(name for name in folders if name[0] != ".") if deep else []
        chosen = (name for name in sorted(files) if name[0] != ".")
        found += [Path(place, name) for name in chosen if os.path.splitext(name)[1].lower() in endings]
    return found


def _refuse(error: OSError) -> None:
    raise error
