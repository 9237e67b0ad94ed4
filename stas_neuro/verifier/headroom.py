"""Headroom of a program's integers below the limit of a core, and how often its readout clips."""

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
    """Magnitudes of the membranes of one LIF layer before their reset.

    Parameters
    ----------
    largest : int
        Largest magnitude on the images that were compared.
    bound : int
        Proved bound for any image.
    limit : int
        Largest magnitude that a core can represent.
    """

    layer: str
    largest: int
    bound: int
    limit: int = STATE_LIMIT

    @property
    def bits(self) -> float:
        """Headroom of the bound in bits; the proof guarantees at least 0."""
        return math.log2(self.limit / max(self.bound, 1))

    @property
    def bits_seen(self) -> float:
        """Headroom in bits on these images."""
        return math.log2(self.limit / max(self.largest, 1))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        return asdict(self) | {"headroom_bits": self.bits, "headroom_bits_seen": self.bits_seen}


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """Headroom of every LIF layer, and how many input values the readout clipped."""

    layers: tuple[Headroom, ...]
    readout_values: int
    readout_clipped: int

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        return asdict(self) | {"layers": [layer.to_json() for layer in self.layers]}


class Watch:
    """Observer of the integer reference, passed as `observe`, over any number of batches."""

    def __init__(self, graph: Graph) -> None:
        lifs = [node for node in graph.nodes if isinstance(node, FixedLIF)]
        self.steps = {lif.name: 1 if lif.phase == Phase.ONCE else graph.time_steps for lif in lifs}
        self.bounds = {lif.name: membrane_bound(graph, lif) for lif in lifs}
        self.largest = dict.fromkeys(self.steps, 0)
        self.observed = dict.fromkeys(self.steps, 0)
        """Number of steps observed, over all batches."""
        self.membranes: dict[str, NDArray[np.int64]] = {}
        self.values = self.clipped = 0

    def __call__(self, node: Node, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Record the inputs of a node in one step."""
        if isinstance(node, FixedLIF):
            self._step(node, inputs["x"].astype(np.int64), inputs.get("alive"))
        elif isinstance(node, FixedReadout):
            for port, value in inputs.items():
                if port.startswith("z"):
                    kept = np.abs(value.astype(np.int64) >> node.z_shift) <= node.z_limit
                    self.values += kept.size
                    self.clipped += int(np.count_nonzero(~kept))

    def _step(self, lif: FixedLIF, x: NDArray[np.int64], alive: NDArray[Any] | None) -> None:
        """Recompute the membranes, because the reference returns them only after their reset."""
        if self.observed[lif.name] % self.steps[lif.name]:
            v = self.membranes[lif.name]
            v = np.sign(v) * ((np.abs(v) * (4096 - lif.dv)) >> 12) + x
        else:
            v = x.copy()
        if lif.clips:
            v = v.clip(-STATE_LIMIT, STATE_LIMIT)
        self.observed[lif.name] += 1
        self.largest[lif.name] = max(self.largest[lif.name], int(np.abs(v).max()))
        fired = v > lif.vth << ALIGN
        if lif.reset == "zero":
            v[fired] = 0
        else:
            v[fired if alive is None else fired & (alive[..., None] != 0)] -= lif.subtracted
        self.membranes[lif.name] = v

    def saturation(self) -> Saturation:
        """Return the observed magnitudes with the proved bounds."""
        return Saturation(
            layers=tuple(
                Headroom(layer=name, largest=largest, bound=self.bounds[name])
                for name, largest in self.largest.items()
            ),
            readout_values=self.values,
            readout_clipped=self.clipped,
        )
