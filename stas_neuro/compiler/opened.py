"""A network as it was given, opened once for all that is compiled of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stas_neuro.bundle import Bundle, load_bundle
from stas_neuro.compiler.integers import load_scales
from stas_neuro.compiler.model import is_checkpoint, load_model
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
        A model, or a graph that is not quantised; None where only an integer program is given.
    quantised : Graph or None
        The integer program that it comes with.
    mapping : Mapping or None
        The cores that it was placed on.
    tuned : Quantise or None
        The pass that a model was fine-tuned with.
    source : Path or None
        Its checkpoint, if it was read from one.
    """

    network: StasModel | Graph | None
    quantised: Graph | None = None
    mapping: Mapping | None = None
    tuned: Quantise | None = None
    source: Path | None = None

    @property
    def bits(self) -> int | None:
        """Bits of its widest weight, where it comes with integers or the scales for them; None elsewhere."""
        if self.tuned is not None:
            return self.tuned.bits
        if self.quantised is None:
            return None
        widths = (node.weight_bits for node in self.quantised.nodes if isinstance(node, FixedSynaptic))
        return max(widths, default=0)


def open_model(model: StasModel | str | Path) -> Opened:
    """Open a model, or the directory of a checkpoint.

    Raises
    ------
    InputError
        When torch or a file is missing, or one is damaged.
    """
    if not isinstance(model, str | Path):
        return Opened(network=model)
    source = Path(model)
    return Opened(network=load_model(source), tuned=load_scales(source), source=source)


def open_network(network: StasModel | Graph | Bundle | str | Path) -> Opened:
    """Open a model, a graph or a bundle; a path is that of a checkpoint or of a bundle.

    Raises
    ------
    InputError
        When torch or a file is missing, or one is damaged.
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
