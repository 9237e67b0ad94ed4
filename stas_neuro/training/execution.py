"""Runs a graph in torch with gradients: the order of its nodes, the values between them, and halting.

Arithmetic is in `training.floats` and `training.integers`; operations that only move or select values are the
same in both, and are here.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stas_neuro.bundle import hash_network
from stas_neuro.ir import (
    Gate,
    Graph,
    HaltAccumulate,
    Map,
    MaxPool,
    Node,
    Phase,
    Readout,
    Slice,
    SpikeAnd,
    SpikeMaxPool,
    Tokens,
    neutral,
    per_policy,
)
from stas_neuro.models.halting import soften
from stas_neuro.models.stas import Output

State = dict[str, Tensor]
Inputs = Mapping[str, Tensor]
Operators = Mapping[type[Node], Callable[[Any, Any, Inputs], State]]


def straight(rounded: Tensor, exact: Tensor) -> Tensor:
    """Return exactly `rounded`, with the gradient of `exact`."""
    return rounded.detach() + (exact - exact.detach())


class GraphModule(nn.Module):
    """A graph that computes in torch with gradients; it takes the place of a `StasModel` in training."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    @property
    def identity(self) -> str:
        """A hash that two modules share if they start with the same network and weights."""
        return hash_network(self.graph)

    @abstractmethod
    def trained(self) -> Graph:
        """Return the float graph with the weights that were learnt, float64."""

    def commit_statistics(self) -> None:
        """Do nothing: folding has removed all normalisations."""


@dataclass(frozen=True, eq=False)
class Visit:
    """What an accumulator decides about: `one` stands for 1, tokens halt at `limit`; values (B, N)."""

    h: Tensor
    alive: Tensor
    total: Tensor
    limit: float
    one: float


class Run:
    """One forward pass, with values by output port and states by node; `operators` compute the nodes."""

    def __init__(self, graph: Graph, images: Tensor, operators: Operators) -> None:
        self.graph, self.images, self.operators = graph, images, operators
        self.values: dict[tuple[str, str], Tensor] = {}
        self.previous: dict[tuple[str, str], Tensor] = {}
        self.stem: dict[tuple[str, str], list[Tensor]] = {}
        self.state: dict[str, State] = {}
        self.step = 0
        self.masks: list[Tensor] = []
        self.soft_masks: list[Tensor] = []
        """The same, with a gradient (`soften`); `soft` has those that accumulators handed on, by name."""
        self.soft: dict[str, Tensor] = {}
        self.soft_before: dict[str, Tensor] = {}
        self.ponder = images.new_zeros(())

    def output(self) -> Output:
        """Run all phases."""
        graph = self.graph
        by_phase: dict[Phase, list[Node]] = {phase: [] for phase in Phase}
        for node in graph.nodes:
            by_phase[node.evaluated_in].append(node)
        entry = by_phase[Phase.ONCE]
        integrated = next((i for i, node in enumerate(entry) if node.traits.stacks), len(entry))
        self._all(entry[:integrated])
        for self.step in range(graph.time_steps if by_phase[Phase.STEM] else 0):
            self._all(by_phase[Phase.STEM])
            for node in by_phase[Phase.STEM]:
                for port in node.OUTPUTS:
                    self.stem.setdefault((node.name, port), []).append(self.values[node.name, port])
        self._all(entry[integrated:])
        for self.step in range(graph.time_steps):
            self.previous, self.soft_before = dict(self.values), dict(self.soft)
            self._all(by_phase[Phase.STEP])
        self._all(by_phase[Phase.END])
        logits = self.values[graph.output.name, "x"]
        shape = (len(logits), graph.time_steps, graph.blocks, graph.tokens)
        if not self.masks:
            every = self.ponder + graph.time_steps * graph.blocks
            ones = torch.ones(shape, dtype=logits.dtype)
            return Output(logits, ones.bool(), every, ones)
        hard, soft = (
            torch.stack(masks, 1).unflatten(1, (graph.time_steps, -1)).expand(shape)
            for masks in (self.masks, self.soft_masks)
        )
        return Output(logits, hard.bool(), self.ponder, soft)

    @property
    def last_step(self) -> bool:
        """Whether this is the last of the model steps."""
        return self.step == self.graph.time_steps - 1

    def _all(self, nodes: list[Node]) -> None:
        for node in nodes:
            inputs = {port: self._input(node, port) for port in self.graph.inputs(node)}
            outputs = self.operators[type(node)](self, node, inputs)
            self.values.update({(node.name, port): value for port, value in outputs.items()})

    def _input(self, node: Node, port: str) -> Tensor:
        edge = self.graph.inputs(node)[port]
        key = edge.src, edge.src_port
        if node.traits.stacks:
            return torch.stack(self.stem[key])
        if edge.delay:
            if self.step == 0:
                shape = (len(self.images), *self.graph.types[key].shape)
                return self.images.new_full(shape, neutral(port))
            return self.previous[key]
        return self.values[key]

    def frame(self, node: Node, inputs: Inputs) -> State:
        """Give the image, or the frame of a step."""
        return {"y": self.images if node.phase == Phase.ONCE else self.images[:, self.step]}

    # Halting ------------------------------------------------------------------------------------------------

    def decide(self, node: HaltAccumulate, inputs: Inputs, limit: float, one: float) -> State:
        """Decide which tokens still visit, and note the visits and what the ponder loss adds up.

        The loss is that of `models.halting`: visits, and the remainder, through which its gradient flows.
        """
        h = inputs["score"]
        alive, total = inputs.get("alive", torch.ones_like(h)), inputs.get("total", torch.zeros_like(h))
        before = self._handed_on(node, alive)
        self.masks.append(alive)
        self.soft_masks.append(before)
        # One accumulator may stand for the visits of several blocks.
        self.ponder = self.ponder + alive.mean() * (self.graph.blocks // len(self.graph.accumulators))
        decided = _POLICIES[node.mode](self, node, Visit(h, alive, total, limit, one))
        before = before * (not node.is_closed(self.step))  # no score changes that the token halts
        self.soft[node.name] = soften(decided["alive"], before, (limit - decided["total"]) / one)
        return decided

    def _handed_on(self, node: HaltAccumulate, alive: Tensor) -> Tensor:
        """Return the mask of a visit with its gradient: that of the decision before."""
        edge = self.graph.inputs(node).get("alive")
        if edge is None or edge.src not in (made := self.soft_before if edge.delay else self.soft):
            return torch.ones_like(alive)
        return made[edge.src]

    def _rectangular(self, node: HaltAccumulate, at: Visit) -> State:
        state = self.state.setdefault(node.name, {"column": torch.zeros_like(at.h)})
        state["column"] = state["column"] + at.alive * at.h
        total = at.total + state["column"]
        alive = at.alive * (total < at.limit) * (not node.is_closed(self.step))
        closing = at.alive if node.last_block else at.alive - alive
        rest = closing * (at.one - at.total) / self.graph.time_steps
        self.ponder = self.ponder + (rest / at.one).mean()
        return {"alive": alive, "total": total, "p": at.alive * at.h}

    def _raster(self, node: HaltAccumulate, at: Visit) -> State:
        last = node.last_block and self.last_step
        return self._summed_up(at, forced=last or node.is_closed(self.step))

    def _block(self, node: HaltAccumulate, at: Visit) -> State:
        return self._summed_up(at, forced=node.last_block or node.is_closed(self.step))

    def _summed_up(self, at: Visit, *, forced: bool) -> State:
        """Halt where the sum of scores reaches the limit, or everywhere."""
        halts = torch.ones_like(at.h) if forced else (at.total + at.h >= at.limit).to(at.h)
        rest = at.alive * halts * (at.one - at.total)
        self.ponder = self.ponder + (rest / at.one).mean()
        return {
            "alive": at.alive * (1 - halts),
            "total": at.total + at.alive * at.h,
            "p": at.alive * (1 - halts) * at.h + rest,
        }

    def _image(self, node: HaltAccumulate, at: Visit) -> State:
        """Halt with the image, whose score is 0 or 1; visits weigh alike and leave no remainder."""
        total = at.total + at.alive * at.h
        alive = at.alive * (total < at.limit) * (not node.is_closed(self.step))
        return {"alive": alive, "total": total, "p": at.alive * at.one}

    # Readout ------------------------------------------------------------------------------------------------

    def gather(self, node: Readout, z: Mapping[int, Tensor], inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Take the values z (B, N, D) of a step by block; return each token's value and weight so far."""
        like = z[max(z)]
        ones, zeros = torch.ones_like(like[:, :, :1]), torch.zeros_like(like)
        start = {"sum": zeros, "last": zeros, "weight": torch.zeros_like(ones)}
        state = self.state.setdefault(node.name, start)
        entered = torch.zeros_like(ones)
        for block, value in z.items():
            if node.mode == "mean-field":
                p = inputs[f"p{block}"][:, :, None] if f"p{block}" in inputs else ones
                state["sum"], state["weight"] = state["sum"] + p * value, state["weight"] + p
                continue
            visited = inputs[f"alive{block}"][:, :, None] if f"alive{block}" in inputs else ones
            state["last"] = torch.where(visited > 0, value, state["last"])
            entered = torch.maximum(entered, visited)
        if node.mode == "rate":
            state["sum"], state["weight"] = state["sum"] + entered * state["last"], state["weight"] + entered
        return state["last" if node.mode == "last-state" else "sum"], state["weight"]


_POLICIES: Mapping[str, Callable[[Run, HaltAccumulate, Visit], State]] = per_policy(
    "decisions in training",
    {
        "raster": Run._raster,
        "time": Run._raster,
        "block": Run._block,
        "rectangular": Run._rectangular,
        "image": Run._image,
    },
)


# What moves or selects values ---------------------------------------------------------------------------


def _pool(run: Run, node: SpikeMaxPool | MaxPool, inputs: Inputs) -> State:
    kernel, stride, (above, left), dilation = node.sides
    padded = nn.functional.pad(inputs["x"], (left, left, above, above), value=-math.inf)
    return {"y": nn.functional.max_pool2d(padded, kernel, stride, dilation=dilation)}


def _tokens(run: Run, node: Tokens, inputs: Inputs) -> State:
    return {"y": inputs["x"].flatten(2).transpose(1, 2)}


def _map(run: Run, node: Map, inputs: Inputs) -> State:
    return {"y": inputs["x"].transpose(1, 2).unflatten(2, (node.height, node.width))}


def _slice(run: Run, node: Slice, inputs: Inputs) -> State:
    x = inputs["x"]
    return {"y": x.narrow(1 if x.ndim == 4 else -1, node.start, node.stop - node.start)}


def _gate(run: Run, node: Gate, inputs: Inputs) -> State:
    x, mask = inputs["x"], inputs["mask"]
    if node.axis == "head":
        return {"y": x * mask.repeat_interleave(x.shape[-1] // mask.shape[-1], dim=-1)}
    return {"y": x * (mask[:, :, None] if node.axis == "token" else mask[:, None, :])}


def _spike_and(run: Run, node: SpikeAnd, inputs: Inputs) -> State:
    a, b = inputs["a"], inputs["b"]
    return {"y": a * (1 - b) if node.invert else a * b}


MOVES: Operators = {
    Gate: _gate,
    Map: _map,
    MaxPool: _pool,
    Slice: _slice,
    SpikeAnd: _spike_and,
    SpikeMaxPool: _pool,
    Tokens: _tokens,
}
"""Operators that are the same for floats and integers."""


def attend(inputs: Inputs, heads: int) -> Tensor:
    """Multiply q (k^T v) of each head: (B, N, D)."""
    q, k, v = (inputs[port].unflatten(-1, (heads, -1)).transpose(1, 2) for port in "qkv")
    product: Tensor = (q @ (k.transpose(2, 3) @ v)).transpose(1, 2).flatten(2)
    return product
