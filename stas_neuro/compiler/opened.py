"""A network as it was given, opened once for all of its compilations."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro.bundle import Bundle, Provenance, load_bundle
from stas_neuro.compiler.integers import load_scales
from stas_neuro.compiler.model import PassRecord, is_checkpoint, load_model, provenance
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
    source : Path or None
        Its checkpoint directory, if it was read from one.
    weights : Weights or None
        The released weights that the graph was made from.
    """

    network: StasModel | Graph | None
    quantised: Graph | None = None
    mapping: Mapping | None = None
    tuned: Quantise | None = None
    source: Path | None = None
    weights: Weights | None = None

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
        if self.source is not None:
            return provenance(self.source, passes=passes, **options)
        return Provenance(source="", options=dict(options), passes=tuple(passes))


def open_model(model: StasModel | Weights | str | Path) -> Opened:
    """Open a model, released weights, or the directory of a checkpoint.

    Raises
    ------
    InputError
        If torch or a file is missing, or a file is damaged.
    """
    if isinstance(model, Weights):
        return Opened(network=model.graph, weights=model)
    if not isinstance(model, str | Path):
        return Opened(network=model)
    source = Path(model)
    return Opened(network=load_model(source), tuned=load_scales(source), source=source)


def open_network(network: StasModel | Weights | Graph | Bundle | str | Path) -> Opened:
    """Open a model, released weights, a graph or a bundle; a path names a checkpoint or a bundle.

    Raises
    ------
    InputError
        If torch or a file is missing, or a file is damaged.
    """
    if isinstance(network, str | Path) and not is_checkpoint(network):
        network = load_bundle(network)
    if isinstance(network, Bundle):
        return Opened(network=network.graph, quantised=network.quantised, mapping=network.mapping)
    if isinstance(network, Graph):
        if network.stage == Stage.QUANTISED:
            return Opened(network=None, quantised=network)
        return Opened(network=network)
    return open_model(network)
