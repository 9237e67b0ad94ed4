"""In which Lava steps each process works, which ports are connected, and how messages arrive there.

One image takes `period` Lava steps: T, or 2T where the stem integrates over its own T steps first. A Lava
step is a model step; a process outside its window neither receives nor sends nor changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stas_neuro.analysis import score_mask
from stas_neuro.ir import Edge, Graph, HaltingScore, ImageScore, Integrate, Node, Phase

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
    """Windows of all nodes within the `period` Lava steps of one image."""

    period: int
    windows: dict[str, Window]

    @staticmethod
    def of(graph: Graph) -> Schedule:
        """The schedule that a graph's phases ask for."""
        steps = graph.time_steps
        prologue = steps if any(node.phase == Phase.STEM for node in graph.nodes) else 0
        integrated = _downstream_of_integrate(graph)
        windows = {}
        for node in graph.nodes:
            if node.phase == Phase.STEM or isinstance(node, Integrate):
                windows[node.name] = Window(0, steps)
            elif node.phase == Phase.STEP or node.traits.gathers:
                windows[node.name] = Window(prologue, steps)
            elif node.phase == Phase.END:
                windows[node.name] = Window(prologue + steps - 1, 1)
            else:
                windows[node.name] = Window(prologue - 1 if node.name in integrated else 0, 1)
        return Schedule(prologue + steps, windows)

    def arrival(self, edge: Edge, sender: Node) -> str:
        """How messages along an edge arrive: EACH, HELD or DELAYED."""
        if edge.delay:
            return DELAYED
        if self.windows[sender.name].steps == 1 or isinstance(sender, Integrate) or sender.traits.gathers:
            return HELD
        return EACH


def connections(graph: Graph) -> tuple[Edge, ...]:
    """Give all connections of ports: the graph's edges, and to each score the mask of its accumulator.

    With that mask the process of a score counts lookups of visited tokens only; it changes no result.
    """
    scores: tuple[HaltingScore | ImageScore, ...] = (
        *graph.of_type(HaltingScore),
        *graph.of_type(ImageScore),
    )
    masks = ((score, score_mask(graph, score)) for score in scores)
    return graph.edges + tuple(replace(mask, dst=score.name) for score, mask in masks if mask is not None)


def _downstream_of_integrate(graph: Graph) -> set[str]:
    reached = {node.name for node in graph.of_type(Integrate)}
    for node in graph.nodes:  # topological order
        if any(edge.src in reached and not edge.delay for edge in graph.inputs(node).values()):
            reached.add(node.name)
    return reached
