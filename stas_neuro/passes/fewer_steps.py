"""A network that ends after fewer model steps than it was trained with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stas_neuro.errors import InputError
from stas_neuro.ir import Graph, Stage


@dataclass(frozen=True)
class FewerSteps:
    """Run only the first model steps, with the same weights: a fixed end, the rival of halting.

    The readout is the mean over the steps that remain, and scores only have these steps to reach their sum.

    Parameters
    ----------
    steps : int
        Number of model steps, from 1 to that of the network.

    Raises
    ------
    InputError
        When the network has fewer steps, is quantised (its integers are bounded for its steps), or has
        weights for each step.
    """

    steps: int

    def __call__(self, graph: Graph) -> Graph:
        """Return the graph with this number of model steps, of the same stage."""
        if not 1 <= self.steps <= graph.time_steps:
            what = f"{self.steps} model steps of a network with {graph.time_steps}"
            raise InputError(what, f"use 1 to {graph.time_steps}")
        if graph.stage == Stage.QUANTISED:
            raise InputError("the network is quantised", "cut the folded graph, then quantise it")
        for node in graph.nodes:
            if node.params(self.steps) != node.params(graph.time_steps):
                what = f"{node.name} has a weight for each of the {graph.time_steps} model steps"
                raise InputError(
                    what, f"train a model of {self.steps} steps, or one whose steps weigh the same"
                )
        return replace(graph, time_steps=self.steps)
