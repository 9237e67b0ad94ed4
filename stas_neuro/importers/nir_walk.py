"""From a NIR network to the nodes of a graph, in the order of its edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from stas_neuro.importers import nir_neurons
from stas_neuro.importers.nir_draft import SCOPE, Draft, Place, Refused, Value
from stas_neuro.importers.nir_file import NirNetwork
from stas_neuro.importers.nir_nodes import RULES, refused
from stas_neuro.ir import LIF, Add, Input, Linear, Output, Phase, Problems, Readout, Shape, Tokens
from stas_neuro.limits import VALUES_LIMIT

LAYERS = ("Affine", "Linear")
NEURONS = ("CubaLIF", "IF", "LIF", "Threshold")


@dataclass
class Walk:
    """A walk over a network.

    Parameters
    ----------
    network : NirNetwork
    names : mapping of str to str
        Name in the graph for each node of the network.
    dt : float
    fire : str
    static : bool
        The input is one image instead of a frame a step.
    find_head : bool
        Whether a layer at the end is applied after the readout; else `head` says which, if any.
    """

    network: NirNetwork
    names: Mapping[str, str]
    dt: float
    fire: Any
    static: bool
    find_head: bool
    head: str | None = None
    time_steps: int = 1
    draft: Draft = field(init=False)
    problems: Problems = field(default_factory=Problems)
    _values: dict[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.draft = Draft(set(self.names.values()))
        self._sources: dict[str, list[str]] = {name: [] for name in self.network.nodes}
        self._targets: dict[str, list[str]] = {name: [] for name in self.network.nodes}
        for source, target in self.network.edges:
            self._sources[target].append(source)
            self._targets[source].append(target)

    def run(self, readout: str, scope: str, blocks: int) -> int:
        """Make all nodes, with a readout of a name and its blocks; gives the number of classes.

        Raises
        ------
        IRError
            With a problem for each node that a graph cannot express.
        """
        begin, end = (self._only(kind) for kind in ("Input", "Output"))
        for name, node in self.network.nodes.items():
            if node.kind not in (*RULES, "Input", "Output") and not self._integrates(name):
                self._refuse(name, refused(node.kind))
            elif not self._sources[name] and node.kind != "Input":
                self.problems.add(name, "no edge ends there", "remove it, or connect it")
            elif not self._targets[name] and node.kind != "Output":
                self.problems.add(name, "no edge begins there", "remove it, or connect it")
        self.problems.raise_if_any()
        order = self._order()
        last, integrator = self._last(end)
        if self.find_head:
            self.head = self._head(last)
        for name in order:
            if name not in (begin, end, self.head, integrator):
                self._visit(name)
            elif name == begin:
                self._begin(name)
        if self.find_head and self.head is not None:
            self._put_head_before_readout(self.head)
        self.problems.raise_if_any()
        classes = self._end(end, last, readout, scope, blocks)
        if integrator is not None:
            self._integrate(integrator, last)
            self.problems.raise_if_any()
        return classes

    def _last(self, end: str) -> tuple[str, str | None]:
        """Return the last node before the output, or before an integrator there, and that integrator."""
        if len(self._sources[end]) != 1:
            self.problems.add(end, "several edges end there", "join them in a node before it")
            self.problems.raise_if_any()
        (last,) = self._sources[end]
        return (self._sources[last][0], last) if self._integrates(last) else (last, None)

    def _integrates(self, name: str) -> bool:
        """Return whether a node is an integrator at the end, behind one layer."""
        ends = self._targets[name] and all(
            self.network.nodes[target].kind == "Output" for target in self._targets[name]
        )
        return self.network.nodes[name].kind == "I" and bool(ends) and len(self._sources[name]) == 1

    def _integrate(self, name: str, layer: str) -> None:
        """Scale the layer before an integrator: its last membrane is r * dt * T times the mean over steps."""
        try:
            place = self._place(name)
            gain = place.array("r").astype(np.float64).reshape(-1) * (self.dt * self.time_steps)
            weight = self.draft.tensors.get(f"{self.names[layer]}/weight")
            if weight is None or not place.alone or gain.size not in (1, len(weight)):
                raise Refused("is not behind a layer of its own", "place a layer of weights before it")
            self.draft.scale_rows(self.names[layer], np.broadcast_to(gain, len(weight)))
            self.draft.note("logits are the membranes of the last integrators after the last step")
        except Refused as why:
            self._refuse(name, why)

    def _only(self, kind: str) -> str:
        found = [name for name, node in self.network.nodes.items() if node.kind == kind]
        if len(found) != 1:
            self.problems.add("network", f"has {len(found)} {kind} nodes", "export a network with one")
            self.problems.raise_if_any()
        return found[0]

    def _order(self) -> list[str]:
        """Order all nodes along the edges; a cycle is a problem."""
        waiting = {name: len(sources) for name, sources in self._sources.items()}
        ready = sorted(name for name, count in waiting.items() if not count)
        order = []
        while ready:
            order.append(name := ready.pop())
            for target in self._targets[name]:
                waiting[target] -= 1
                if not waiting[target]:
                    ready.append(target)
        for name in sorted(name for name, count in waiting.items() if count):
            self.problems.add(
                name, "is in or behind a cycle of edges", "recurrent networks are not supported"
            )
        self.problems.raise_if_any()
        return order

    def _head(self, last: str) -> str | None:
        """Find a layer with weights at the end, which can as well be applied to the mean over steps."""
        if self.network.nodes[last].kind not in LAYERS or len(self._sources[last]) != 1:
            return None
        (before,) = self._sources[last]
        return last if self.network.nodes[before].kind in (*NEURONS, "Flatten") else None

    def _put_head_before_readout(self, head: str) -> None:
        """Make the layer at the end a convolution, which the readout follows, where it takes all of a map."""
        x = self._values.get(self._sources[head][0])
        if x is not None and x.flat and prod(x.shape[1:]) > 1:
            self.head = None
            self._visit(head)

    def _refuse(self, name: str, why: Refused) -> None:
        self.problems.add(f"{name} ({self.network.nodes[name].kind})", why.what, why.remedy)

    def _begin(self, name: str) -> None:
        """Make the input: a map (C, H, W), of one position for a vector.

        The layer on a vector is then a convolution, which is what can hold the normalisation of an image.
        """
        place = self._place(name)
        try:
            sides = tuple(int(side) for side in place.array("shape").reshape(-1))
            if self._counts_steps(name, sides):
                sides = sides[2:]
            shape = _sequence_shape(sides) if self._is_sequence(name) else _input_shape(sides)
        except Refused as why:
            self._refuse(name, why)
            return
        phase = Phase.ONCE if self.static else Phase.STEP
        vector = len(shape) == 1
        full = (*shape, 1, 1) if vector else shape
        x = self.draft.add(Input(name=place.name, phase=phase, scope="stem", shape=full), full)
        self._values[name] = replace(x, flat=vector)

    def _counts_steps(self, name: str, shape: Shape) -> bool:
        """Return whether a shape is (1, T, features): layers of weights take its last axis."""
        if len(shape) != 3 or not all(
            self.network.nodes[target].kind in LAYERS for target in self._targets[name]
        ):
            return False
        if shape[:2] != (1, self.time_steps):
            what = f"has shape {shape}, and layers of weights take one axis"
            remedy = f"if its axes are images, steps and features, give --time-steps {shape[1]}"
            raise Refused(what, remedy)
        return True

    def _is_sequence(self, name: str) -> bool:
        return any(self.network.nodes[target].kind == "Conv1d" for target in self._targets[name])

    def _visit(self, name: str) -> None:
        """Make what a node becomes; nodes behind a neuron that is refused are checked without it."""
        if not all(source in self._values for source in self._sources[name]):
            return
        kind, x = self.network.nodes[name].kind, None
        try:
            x = self._sum(name)
            self._values[name] = RULES[kind](self._place(name), x)
        except Refused as why:
            self._refuse(name, why)
            if x is not None and kind in nir_neurons.RULES:
                self._values[name] = replace(x, layer="")

    def _place(self, name: str) -> Place:
        sources = self._sources[name]
        behind = [target for target in self._targets[name] if self.network.nodes[target].kind == "Flatten"]
        ends = {target for flatten in behind for target in self._targets[flatten]}
        return Place(
            self.draft,
            self.names[name],
            self.network.nodes[name],
            self.dt,
            self.fire,
            alone=len(sources) == 1 and len(self._targets[sources[0]]) == 1,
            to_readout=len(behind) == len(self._targets[name]) == 1
            and ends <= {self.head, self._only("Output")},
        )

    def _sum(self, name: str) -> Value:
        """Add up what edges bring, as NIR does; a Scale by 1 lends the last sum its name."""
        first, *others = (self._values[source] for source in self._sources[name])
        for index, other in enumerate(others):
            if (first.shape, first.flat) != (other.shape, other.flat) or first.pooled or other.pooled:
                what = f"adds values of shapes {first.shape} and {other.shape}"
                raise Refused(what, "make them equal")
            is_last = index == len(others) - 1
            named = self.network.nodes[name].kind == "Scale" and is_last
            phase = Phase.ONCE if first.phase == other.phase == Phase.ONCE else Phase.STEP
            node = Add(
                name=self.names[name] if named else self.draft.new_name(f"{self.names[name]}.sum"),
                phase=phase,
                scope="stem" if phase == Phase.ONCE else SCOPE,
            )
            first = replace(self.draft.add(node, first.shape, a=first, b=other), flat=first.flat)
        return first

    def _end(self, end: str, last: str, readout: str, scope: str, blocks: int) -> int:
        """Make the readout, the layer behind it, if any, and the output."""
        before = last if self.head is None else self._sources[self.head][0]
        z = self._values[before]
        if not any(isinstance(node, LIF) for node in self.draft.nodes.values()):
            self.problems.add("network", "has no spiking neurons", "export a spiking network")
        if len(z.shape) == 3 and prod(z.shape[1:]) == 1:
            name = self.draft.new_name(f"{self.names[end]}.tokens")
            z = self.draft.add(Tokens(name=name, phase=z.phase, scope=SCOPE), (1, z.shape[0]), x=z)
        if len(z.shape) == 3:
            what = f"is reached by a map {z.shape} of several positions"
            self.problems.add(end, what, "end with a layer that has a value for each class")
        self.problems.raise_if_any()
        where: dict[str, Any] = {"phase": Phase.END, "scope": "head"}
        name = readout if readout not in self.draft.nodes else self.draft.new_name(readout)
        node = Readout(name=name, phase=Phase.END, scope=scope, mode="mean-field", blocks=blocks)
        y = self.draft.add(node, z.shape[1:], **{f"z{blocks - 1}": z})
        if self.head is not None:
            y = self._behind_readout(self.head, y)
        self.draft.add(Output(name=self.names[end], **where), (), x=y)
        return y.shape[-1]

    def _behind_readout(self, name: str, y: Value) -> Value:
        try:
            made = RULES[self.network.nodes[name].kind](self._place(name), replace(y, shape=(1, *y.shape)))
        except Refused as why:
            self._refuse(name, why)
            self.problems.raise_if_any()
            raise
        layer = self.draft.nodes[made.node]
        assert isinstance(layer, Linear)
        self.draft.nodes[made.node] = replace(layer, scope="head")
        return replace(made, shape=made.shape[1:])


def _input_shape(shape: Shape) -> Shape:
    """Return (C, H, W) or (D,) of a shape that can have a batch axis; raises Refused for others."""
    if len(shape) in (2, 4) and shape[0] == 1:
        shape = shape[1:]
    if len(shape) not in (1, 3) or min(shape) < 1 or prod(shape) > VALUES_LIMIT:
        raise Refused(f"has shape {shape}", "use (C, H, W) or (features,), with a batch axis of 1 at most")
    return shape


def _sequence_shape(shape: Shape) -> Shape:
    """Return (C, 1, L) of the shape of a sequence, which can have a batch axis; raises Refused for others."""
    if len(shape) == 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 2 or min(shape) < 1 or prod(shape) > VALUES_LIMIT:
        raise Refused(f"has shape {shape}", "use (C, L), with a batch axis of 1 at most")
    return shape[0], 1, shape[1]
