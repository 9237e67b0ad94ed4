"""Reasons why a network does not fit a chip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stas_neuro.errors import InputError

REMEDIES: Mapping[str, str] = {
    "neurons": "use a chip with larger cores",
    "synaptic memory": "use fewer weight bits (--bits), or fewer inputs to the layer",
    "input axons": "use fewer inputs a neuron, or smaller kernels",
    "output axons": "use fewer groups (--groups), or a smaller network behind the layer",
    "fan-in": "use fewer inputs a neuron, or smaller kernels",
    "chips": "use a smaller network or fewer weight bits (--bits)",
}

_TOLD = 3
"""Reasons that a message names."""


@dataclass(frozen=True)
class Reason:
    """A limit that a layer exceeds however it is cut; `layer` is empty for the whole network.

    `needed` and `limit` are counts; bits for synaptic memory.
    """

    layer: str
    resource: str
    needed: int
    limit: int

    @property
    def remedy(self) -> str:
        """What the user can do about it."""
        return REMEDIES[self.resource]

    @property
    def where(self) -> str:
        """Name of the layer, or words for the whole network."""
        return self.layer or "the network"

    @property
    def excess(self) -> str:
        """Amount needed, the limit, and the remedy."""
        scale, unit = (8, " bytes") if self.resource == "synaptic memory" else (1, "")
        needed, limit = -(-self.needed // scale), self.limit // scale
        return f"{self.resource} {needed} of {limit}{unit} ({self.remedy})"

    def __str__(self) -> str:
        """Return the layer, the amount needed, the limit, and the remedy."""
        return f"{self.where}: {self.excess}"


class MoreCores(Exception):
    """A packing was given up, because it needs more cores than it may."""


class DoesNotFit(InputError):
    """A network does not fit a chip; `reasons` has all reasons, and `lines` one line per layer if many.

    The message names the worst reasons, by the ratio of the amount needed to the limit.
    """

    def __init__(self, profile: str, reasons: Sequence[Reason]) -> None:
        self.profile, self.reasons = profile, tuple(reasons)
        worst = sorted(self.reasons, key=lambda reason: -reason.needed / reason.limit)[:_TOLD]
        count = f"{len(self.reasons)} reasons, the worst: " if len(self.reasons) > _TOLD else ""
        what = f"does not fit {profile}: {count}{', '.join(map(str, worst))}"
        super().__init__(what, "change the network or take another chip")
        if count:
            layers = dict.fromkeys(reason.where for reason in self.reasons)
            self.lines = tuple(
                f"{layer}: {', '.join(reason.excess for reason in self.reasons if reason.where == layer)}"
                for layer in layers
            )

    def __reduce__(self) -> tuple[type[DoesNotFit], tuple[str, tuple[Reason, ...]]]:
        return DoesNotFit, (self.profile, self.reasons)
