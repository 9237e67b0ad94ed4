"""How far the integers of a program stay below what a core holds, and how often its readout clips."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir import (
    ALIGN,
    STATE_LIMIT,
    FixedLIF,
    FixedReadout,
    Graph,
    Node,
    Phase,
    membrane_bound,
)


@dataclass(frozen=True, kw_only=True)
class Headroom:
    """Membranes of one LIF layer before their reset, as magnitudes.

    Parameters
    ----------
    largest : int
        Seen on the images that were compared.
    bound : int
        Proved for any image.
    limit : int
        What a core holds.
    """

    layer: str
    largest: int
    bound: int
    limit: int = STATE_LIMIT

    @property
    def bits(self) -> float:
        """Bits that the bound leaves free; what is proved keeps it at 0 or above."""
        return math.log2(self.limit / max(self.bound, 1))

    @property
    def bits_seen(self) -> float:
        """Bits that were never needed on these images."""
        return math.log2(self.limit / max(self.largest, 1))

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return asdict(self) | {"headroom_bits": self.bits, "headroom_bits_seen": self.bits_seen}


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """Headroom of every LIF layer, and how many of the values that the readout takes it clipped."""

    layers: tuple[Headroom, ...]
    readout_values: int
    readout_clipped: int

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return asdict(self) | {"layers": [layer.to_json() for layer in self.layers]}


class Watch:
    """Looks on while the integer reference runs: what it calls as `observe`, with any number of batches."""

    def __init__(self, graph: Graph) -> None:
        lifs = [node for node in graph.nodes if isinstance(node, FixedLIF)]
        self.steps = {lif.name: 1 if lif.phase == Phase.ONCE else graph.time_steps for lif in lifs}
        self.bounds = {lif.name: membrane_bound(graph, lif) for lif in lifs}
        self.largest = dict.fromkeys(self.steps, 0)
        self.seen = dict.fromkeys(self.steps, 0)
        """Steps that were observed, of all batches."""
        self.membranes: dict[str, NDArray[np.int64]] = {}
        self.values = self.clipped = 0

    def __call__(self, node: Node, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Take in what reaches a node in one step."""
        if isinstance(node, FixedLIF):
            self._step(node, inputs["x"].astype(np.int64))
        elif isinstance(node, FixedReadout):
            for port, value in inputs.items():
                if port.startswith("z"):
                    kept = np.abs(value.astype(np.int64) >> node.z_shift) <= node.z_limit
                    self.values += kept.size
                    self.clipped += int(np.count_nonzero(~kept))

    def _step(self, lif: FixedLIF, x: NDArray[np.int64]) -> None:
        """Follow the membranes, which the reference gives only after their reset."""
        if self.seen[lif.name] % self.steps[lif.name]:
            v = self.membranes[lif.name]
            v = np.sign(v) * ((np.abs(v) * (4096 - lif.dv)) >> 12) + x
        else:
            v = x.copy()
        self.seen[lif.name] += 1
        self.largest[lif.name] = max(self.largest[lif.name], int(np.abs(v).max()))
        v[v > lif.vth << ALIGN] = 0
        self.membranes[lif.name] = v

    def saturation(self) -> Saturation:
        """Give what was seen, beside what was proved."""
        return Saturation(
            layers=tuple(
                Headroom(layer=name, largest=largest, bound=self.bounds[name])
                for name, largest in self.largest.items()
            ),
            readout_values=self.values,
            readout_clipped=self.clipped,
        )
