"""Files of a model that is imported, as the command line names them."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from stas_neuro.arrays import read_npz
from stas_neuro.bundle import Provenance
from stas_neuro.documents import BadDocument
from stas_neuro.errors import InputError
from stas_neuro.files import read_bytes
from stas_neuro.importers import ImportOptions, is_factory

EXAMPLE = ("example", "axes", "classes", "mean", "std")
"""Arrays of the file with the example; the first is required."""


def imported_files(model: Path, weights: Path | None, example: Path | None) -> list[Path]:
    """List the files that an import reads; empty where MODEL is none that is imported.

    Raises
    ------
    InputError
        Where options of an import are given for something else.
    """
    if not is_factory(model):
        for name, given in (("weights", weights), ("example", example)):
            if given is not None:
                raise InputError(f"{name} is given, and {model} is not file.py:function", f"leave {name} out")
        return []
    file = Path(str(model).rpartition(":")[0])
    return [each for each in (file, weights, example) if each is not None]


def read_options(weights: Path | None, example: Path | None) -> ImportOptions:
    """Read the file with the example."""
    if example is None:
        raise InputError("no example is given", "give --example, an .npz whose example are images")
    try:
        arrays = read_npz(example, EXAMPLE)
    except (BadDocument, OSError) as error:
        raise InputError(f"{example}: {error}", "write it with numpy.savez(file, example=images)") from error
    if "example" not in arrays:
        raise InputError(f"{example} has no array named example", "write numpy.savez(file, example=images)")
    lists = {name: arrays[name].tolist() for name in ("classes", "mean", "std") if name in arrays}
    axes = str(arrays["axes"]) if "axes" in arrays else None
    return ImportOptions(example=arrays["example"], axes=axes, weights=weights, **lists)


def of_import(origin: Provenance, model: Path, files: list[Path]) -> Provenance:
    """Name the code and the weights that a bundle was compiled from."""
    hashes = {each.name: hashlib.sha256(read_bytes(each)).hexdigest() for each in files}
    return dataclasses.replace(origin, source=str(model.absolute()), source_sha256=hashes)
