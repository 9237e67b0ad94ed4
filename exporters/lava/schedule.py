"""In which Lava steps each process works, and how its inputs reach it.

One image takes `period` Lava steps: T, or 2T where the stem integrates over its own T steps first. A Lava
step is a model step; a process outside its window neither receives nor sends nor changes.
"""

from __future__ import annotations

from dataclasses import dataclass

from .network import Layer, Network, Wire

EACH = "each"
"""A message in every step of the receiver's window."""
HELD = "held"
"""One message an image, kept for the whole window."""
DELAYED = "delayed"
"""A message in every step, used one step later; the first step of an image takes the neutral value."""


@dataclass(frozen=True)
class Window:
    """`steps` Lava steps of an image from `first` (counted from 0)."""

    first: int
    steps: int


@dataclass(frozen=True)
class Schedule:
    """Windows of all layers within the `period` Lava steps of one image."""

    period: int
    windows: dict[str, Window]

    @staticmethod
    def of(network: Network) -> Schedule:
        """The schedule that a network's phases ask for."""
        steps = network.time_steps
        prologue = steps if any(layer.phase == "stem" for layer in network.layers) else 0
        integrated = _downstream_of_integrate(network)
        windows = {}
        for layer in network.layers:
            if layer.phase == "stem" or layer.op == "Integrate":
                windows[layer.name] = Window(0, steps)
            elif layer.phase == "step" or layer.op == "Readout":
                windows[layer.name] = Window(prologue, steps)
            elif layer.phase == "end":
                windows[layer.name] = Window(prologue + steps - 1, 1)
            else:
                windows[layer.name] = Window(prologue - 1 if layer.name in integrated else 0, 1)
        return Schedule(prologue + steps, windows)

    def arrival(self, wire: Wire, sender: Layer) -> str:
        """How messages of a wire arrive: EACH, HELD or DELAYED."""
        if wire.delay:
            return DELAYED
        if self.windows[sender.name].steps == 1 or sender.op in ("Integrate", "Readout"):
            return HELD
        return EACH


def _downstream_of_integrate(network: Network) -> set[str]:
    reached = {layer.name for layer in network.of_op("Integrate")}
    for layer in network.layers:  # topological order
        if any(wire.src in reached and not wire.delay for wire in network.wires_into(layer.name)):
            reached.add(layer.name)
    return reached
