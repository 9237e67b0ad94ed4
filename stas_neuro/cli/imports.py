"""Opening of the model that ``compile`` is given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stas_neuro.arrays import read_npz
from stas_neuro.compiler.opened import Opened, open_source, open_trained
from stas_neuro.documents import BadDocument
from stas_neuro.errors import InputError
from stas_neuro.importers import ImportOptions, file_of, is_factory
from stas_neuro.importers.weights import WeightsOptions, open_weights

EXAMPLE = ("example", "axes", "classes", "mean", "std")
"""Arrays of the file with the example; the first is required."""
_SAVE = "write it with numpy.savez(file, example=images)"


def imported_files(
    model: Path, weights: Path | None, example: Path | None, released: WeightsOptions | None
) -> list[Path]:
    """Return the files or the directory that MODEL is read from.

    Raises
    ------
    InputError
        If options do not apply to this kind of MODEL.
    """
    if not is_factory(model):
        for name, given in (("weights", weights), ("example", example)):
            if given is not None:
                what = f"--{name} is given, and {model} is not file.py:function"
                raise InputError(what, f"leave --{name} out")
        return [model]
    if released is not None:
        what = f"--arch is given, and {model} is not a file of released weights"
        raise InputError(what, "leave --arch out")
    return [each for each in (file_of(model), weights, example) if each is not None]


def open_named(
    model: Path, weights: Path | None, example: Path | None, released: WeightsOptions | None
) -> Opened:
    """Open a checkpoint directory, a file of released weights, or file.py:function."""
    if released is not None:
        return open_trained(open_weights(model, released))
    if not is_factory(model):
        return open_trained(model)
    if example is None:
        raise InputError("no example is given", "give --example, an .npz whose array example contains images")
    opened = open_source(model, _read_options(weights, example))
    return replace(opened, files=(*opened.files, example))


def _read_options(weights: Path | None, example: Path) -> ImportOptions:
    try:
        arrays = read_npz(example, EXAMPLE)
    except (BadDocument, OSError) as error:
        raise InputError(f"{example}: {error}", _SAVE) from error
    if "example" not in arrays:
        raise InputError(f"{example} has no array named example", _SAVE)
    lists = {name: arrays[name].tolist() for name in ("classes", "mean", "std") if name in arrays}
    axes = str(arrays["axes"]) if "axes" in arrays else None
    return ImportOptions(example=arrays["example"], axes=axes, weights=weights, **lists)
