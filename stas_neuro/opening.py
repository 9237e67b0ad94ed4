"""Opens what a network can be given as: a model of ours, a bundle, or anything that an importer reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro import api
from stas_neuro.bundle import load_bundle
from stas_neuro.errors import InputError
from stas_neuro.extras import needs
from stas_neuro.importers import IMPORTERS, ImportOptions
from stas_neuro.ir import Graph

if TYPE_CHECKING:
    from stas_neuro.models.stas import StasModel

MANIFEST = "manifest.json"
"""The file by which a directory is known as a bundle."""


@dataclass(frozen=True)
class Opened:
    """A model or a graph, and what an importer says of how it was made."""

    network: StasModel | Graph
    notes: tuple[str, ...] = ()


def open_model(source: Any, *, importer: str | None = None, **options: Any) -> StasModel | Graph:
    """Open a model in any known form; :func:`stas_neuro.compile` takes the result.

    Parameters
    ----------
    source : torch.nn.Module, Graph, str or Path
        A module, in evaluation mode; the directory of a checkpoint of ours; a bundle; or
        ``"file.py:function"``, whose code is run.
    importer : str, optional
        Name of the importer to use (`stas_neuro.importers`). Default: the first that accepts the source.
    **options
        Fields of `stas_neuro.importers.ImportOptions`: `example`, `axes`, `weights`, `classes`, `mean`,
        `std`, `neurons`. A module needs an example.

    Returns
    -------
    StasModel or Graph
        A StasModel for a checkpoint of ours, with its halting; else a graph in floats. A graph that was
        imported gives the module's own spikes and logits in float64 on the example.

    Raises
    ------
    InputError
        If the source cannot be opened, or a graph cannot express it: every reason at once.
    CheckFailed
        If the imported graph does not compute what the module does.
    """
    try:
        given = ImportOptions(**options)
    except TypeError as error:
        known = ", ".join(ImportOptions.__dataclass_fields__)
        what = f"not all of {', '.join(options)} are options of an importer"
        raise InputError(what, f"use {known}") from error
    return open_source(source, given, importer).network


def open_source(source: Any, options: ImportOptions, importer: str | None = None) -> Opened:
    """Open a model, and tell what its importer says; parameters as :func:`open_model`."""
    if importer is None and (own := _own(source)) is not None:
        if options.told:
            what = f"{', '.join(options.told)} are for an importer, and nothing is imported"
            raise InputError(what, "leave them out")
        return Opened(own)
    names = IMPORTERS.names() if importer is None else (importer,)
    with needs("torch"):
        for name in names:
            reader = IMPORTERS.get(name)
            if importer is not None or reader.accepts(source):
                imported = reader.read(source, options)
                return Opened(imported.graph, imported.notes)
    what = repr(str(source)) if isinstance(source, str | Path) else f"a {type(source).__name__}"
    remedy = "give a checkpoint directory, a bundle, a torch module, or file.py:function"
    raise InputError(f"no importer ({', '.join(names)}) reads {what}", remedy)


def _own(source: Any) -> StasModel | Graph | None:
    """Open what needs no importer; None for everything else."""
    if isinstance(source, Graph):
        return source
    if isinstance(source, str | Path):
        path = Path(source)
        if (path / api.CHECKPOINT_FILES[0]).is_file():
            return api.load_model(path)
        is_bundle = path.suffix == ".zip" or (path / MANIFEST).is_file()
        return load_bundle(path).graph if is_bundle else None
    with needs("torch"):
        from stas_neuro.models.stas import StasModel
    return source if isinstance(source, StasModel) else None
