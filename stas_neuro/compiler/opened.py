"""A network as it was given, opened once for all of its compilations."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro.bundle import MANIFEST, Bundle, Provenance, is_bundle, load_bundle
from stas_neuro.compiler.integers import load_scales
from stas_neuro.compiler.model import PassRecord, is_checkpoint, load_model, provenance
from stas_neuro.errors import InputError
from stas_neuro.extras import needs
from stas_neuro.files import read_bytes
from stas_neuro.importers import IMPORTERS, ImportOptions, file_of, is_factory, is_netx, is_nir, is_onnx
from stas_neuro.importers.weights import Weights
from stas_neuro.ir import FixedSynaptic, Graph, Stage
from stas_neuro.mapping import Mapping
from stas_neuro.passes import Quantise

if TYPE_CHECKING:
    from stas_neuro.models.stas import StasModel


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A network before any step of a compilation.

    Parameters
    ----------
    network : StasModel, Graph or None
        A model, or a graph that is not quantised; None if only an integer program is given.
    quantised : Graph or None
        Its integer program, if given.
    mapping : Mapping or None
        Its placement on cores, if given.
    tuned : Quantise or None
        The pass that the model was fine-tuned with.
    source : str or None
        Its checkpoint directory, file.py:function, NIR, netx or ONNX file, if it was read from one.
    weights : Weights or None
        The released weights that the graph was made from.
    files : tuple of Path
        The files that it was imported from, or that identify its bundle.
    notes : tuple of str
        What its importer reports.
    training : mapping or None
        What its bundle records of fine-tuning.
    warnings : tuple of str
        In which way the model computes something else than the graph.
    """

    network: StasModel | Graph | None
    quantised: Graph | None = None
    mapping: Mapping | None = None
    tuned: Quantise | None = None
    source: str | None = None
    weights: Weights | None = None
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    training: AnyMapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def bits(self) -> int | None:
        """Bits of its widest weight, if it has an integer program or trained scales; else None."""
        if self.tuned is not None:
            return self.tuned.bits
        if self.quantised is None:
            return None
        widths = (node.weight_bits for node in self.quantised.nodes if isinstance(node, FixedSynaptic))
        return max(widths, default=0)

    def provenance(self, passes: Sequence[PassRecord], options: AnyMapping[str, Any]) -> Provenance:
        """Return the origin of a bundle compiled from it, with the passes that ran and the options used."""
        if self.weights is not None:
            return self.weights.provenance(tuple(passes), options)
        if self.source is not None and not self.files:
            return provenance(self.source, passes=passes, **options)
        hashes = {each.name: hashlib.sha256(read_bytes(each)).hexdigest() for each in self.files}
        return Provenance(
            source=self.source or "", source_sha256=hashes, options=dict(options), passes=tuple(passes)
        )


def open_source(source: Any, options: ImportOptions | None = None, *, importer: str | None = None) -> Opened:
    """Open a model in any known form.

    Parameters
    ----------
    source : torch.nn.Module, Weights, Graph, Bundle, str or Path
        A path names a checkpoint directory, a bundle, file.py:function, or what another importer accepts.
    options : ImportOptions, optional
        Options of an importer.
    importer : str, optional
        Name of the importer to use. Default: none for a model, weights, a graph, a checkpoint or a bundle,
        else the first that accepts the source.

    Raises
    ------
    InputError
        If torch or a file is missing, a file is damaged, nothing reads the source, or a graph cannot express
        it (all reasons at once).
    CheckFailed
        If an imported graph does not compute the same as its module.
    """
    options = options or ImportOptions()
    if importer is None and (own := _open_own(source)) is not None:
        if options.given:
            what = f"{', '.join(options.given)} are options of an importer, and nothing is imported"
            raise InputError(what, "leave them out")
        return own
    names = IMPORTERS.names() if importer is None else (importer,)
    for name in names:
        with needs("torch"):
            reader = IMPORTERS.get(name)
        if importer is not None or reader.accepts(source):
            imported = reader.read(source, options)
            files = _files_of(source, options)
            origin = _absolute(source) if files else None
            return Opened(
                network=imported.graph,
                quantised=imported.quantised,
                source=origin,
                files=files,
                notes=imported.notes,
                warnings=imported.warnings,
            )
    what = (
        repr(str(source)) if isinstance(source, str | Path) else f"an object of type {type(source).__name__}"
    )
    remedy = "give a checkpoint directory, a bundle, a NIR, netx or ONNX file, a torch module, "
    remedy += "or file.py:function"
    raise InputError(f"no importer ({', '.join(names)}) reads {what}", remedy)


def open_model(source: Any, *, importer: str | None = None, **options: Any) -> StasModel | Graph | Bundle:
    """Open a model in any known form, for :func:`stas_neuro.compile`.

    Parameters
    ----------
    source : torch.nn.Module, Graph, str or Path
        A module in evaluation mode, a checkpoint directory, a bundle, a NIR, netx or ONNX file, or
        ``"file.py:function"``, whose code is executed.
    importer : str, optional
        Name of the importer to use (`stas_neuro.importers`). Default: the first that accepts the source.
    **options
        Fields of `stas_neuro.importers.ImportOptions`: `example`, `axes`, `weights`, `classes`, `mean`,
        `std`, `neurons`, of NIR files `dt`, `time_steps`, `fire`, and of netx files `time_steps` and
        `input_shape`. A module requires an example.

    Returns
    -------
    StasModel, Graph or Bundle
        A StasModel for a checkpoint of stas-neuro, with its halting; a Bundle for a netx file, of its integer
        program and the same network in real numbers; else a float graph. The graph of a module computes the
        same spikes and logits as the module in float64 on the example.

    Warns
    -----
    UserWarning
        If the module computes something else for several images than for one at a time, or returns logits of
        each step.

    Raises
    ------
    InputError
        If the source cannot be opened, or a graph cannot express it (all reasons at once).
    CheckFailed
        If the imported graph does not compute the same as the module.
    """
    if unknown := [name for name in options if name not in ImportOptions.__dataclass_fields__]:
        known = ", ".join(ImportOptions.__dataclass_fields__)
        raise InputError(f"{', '.join(unknown)}: not an option of an importer", f"use {known}")
    opened = open_source(source, ImportOptions(**options), importer=importer)
    if opened.network is None:
        raise InputError("the graph is quantised already", "give the float graph that it was made from")
    for text in opened.warnings:
        warnings.warn(text, UserWarning, stacklevel=2)
    if opened.files and opened.quantised is not None:
        assert isinstance(opened.network, Graph)  # which importers make
        return Bundle(opened.network, opened.provenance((), {}), {}, opened.quantised)
    return opened.network


def open_trained(model: StasModel | Weights | Graph | str | Path) -> Opened:
    """Open a model to compile: a path names a checkpoint, a bundle, or file.py:function."""
    if isinstance(model, str | Path) and not is_factory(model) and not is_bundle(model):
        return _open_checkpoint(Path(model))
    return open_source(model)


def open_network(network: StasModel | Weights | Graph | Bundle | str | Path) -> Opened:
    """Open a network to check: as `open_source`, but a path names a checkpoint or a bundle."""
    if isinstance(network, str | Path) and not is_checkpoint(network):
        network = load_bundle(network)
    return open_source(network)


def _open_own(source: Any) -> Opened | None:
    """Open a source that requires no importer; return None for any other."""
    if isinstance(source, str | Path):
        if is_checkpoint(source):
            return _open_checkpoint(Path(source))
        if not is_bundle(source):
            return None
        path, opened = Path(source), _of_bundle(load_bundle(source))
        file = path / MANIFEST if path.is_dir() else path
        return replace(opened, source=_absolute(path), files=(file,))
    if isinstance(source, Bundle):
        return _of_bundle(source)
    if isinstance(source, Weights):
        return Opened(network=source.graph, weights=source)
    if isinstance(source, Graph):
        fixed = source.stage == Stage.QUANTISED
        return Opened(network=None, quantised=source) if fixed else Opened(network=source)
    with needs("torch"):
        from stas_neuro.models.stas import StasModel
    return Opened(network=source) if isinstance(source, StasModel) else None


def _of_bundle(bundle: Bundle) -> Opened:
    return Opened(
        network=bundle.graph,
        quantised=bundle.quantised,
        mapping=bundle.mapping,
        training=bundle.provenance.training,
    )


def _open_checkpoint(directory: Path) -> Opened:
    return Opened(network=load_model(directory), tuned=load_scales(directory), source=str(directory))


def _files_of(source: Any, options: ImportOptions) -> tuple[Path, ...]:
    """Return the NIR, netx or ONNX file, or code and weights of file.py:function; none for other sources."""
    if is_nir(source) or is_netx(source) or is_onnx(source):
        return (Path(source),)
    if not is_factory(source):
        return ()
    files = (file_of(source), options.weights)
    return tuple(Path(each) for each in files if each is not None)


def _absolute(source: str | Path) -> str:
    return str(Path(source).absolute())
