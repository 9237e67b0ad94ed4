"""Leaky integrate-and-fire neurons, and synaptic currents that outlast a step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from stas_neuro.ir.ops.base import (
    AttributeRange,
    BoundContext,
    Node,
    Traits,
    TypeContext,
    no_memory,
    same_values,
    within,
)
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.ranges import ALIGN, BIAS_LIMIT, STATE_LIMIT, VTH_LIMIT, Range
from stas_neuro.ir.types import Kind, Phase, Shape, ValueType

__all__ = [
    "LIF",
    "FixedLIF",
    "FixedSynapticCurrent",
    "SynapticCurrent",
    "current_range",
    "membrane_bound",
    "membrane_range",
]

if TYPE_CHECKING:
    from stas_neuro.ir.graph import Graph

Fire = Literal[">", ">="]
Reset = Literal["zero", "subtract"]


@dataclass(frozen=True, kw_only=True)
class LIF(Node):
    """v = v + (x - v) / tau; s = v `fire` threshold; v = 0 where it fired, or v - threshold (`reset`).

    Without `decay_input` v = v - v / tau + x, where tau may be infinite: a neuron that does not leak.
    A dead token (`alive`) has x = 0 and only leaks. With `reset` zero this is a gating hint and changes no
    result; what subtraction leaves may be above the threshold, and does not fire until the token is alive.
    In phase once it runs one step from v = 0; the state starts at 0 for each image.
    """

    tau: float = 2.0
    threshold: float
    fire: Fire
    decay_input: bool = True
    reset: Reset = "zero"

    OPTIONAL: ClassVar[tuple[str, ...]] = ("alive",)
    OUTPUTS: ClassVar[tuple[str, ...]] = ("s",)
    TRAITS: ClassVar[Traits] = Traits(
        counts_events=True,
        fires=True,
        keeps_neurons=True,
        makes_current=False,
        stores_weights=False,
        multiplies_spikes=False,
        passes_current=False,
        in_place=False,
        mixes_tokens=(),
        masks_tokens=True,
        needs_program=False,
        gathers=False,
        stacks=False,
        gates_tokens=False,
        sends_if_visited=False,
        may_end=False,
        state="v",
    )
    needs = same_values
    memory = no_memory
    RANGES: ClassVar[dict[str, AttributeRange]] = {
        "tau": (lambda tau: tau >= 1, "a membrane time constant is at least 1 step"),
        "threshold": (lambda threshold: threshold > 0, "a threshold is above 0, the reset value"),
    }
    LATER: ClassVar[frozenset[str]] = frozenset({"decay_input", "reset"})
    INFINITE: ClassVar[frozenset[str]] = frozenset({"tau"})

    @property
    def divisor(self) -> float:
        """What its input is divided by before it is added to the membrane."""
        return self.tau if self.decay_input else 1.0

    def check(self, problems: Problems) -> None:
        """Note an input that is divided by infinity."""
        if self.divisor == math.inf:
            what = "tau is infinite, and its input would be divided by it"
            problems.add(self.name, what, "give a neuron without leak decay_input=False")

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type spikes of the shape of the input."""
        return {"s": at.made(Kind.SPIKE, at.take("x").shape, 1)}


@dataclass(frozen=True, kw_only=True)
class FixedLIF(LIF, integers_of=LIF):
    """v = decay(v) + x; s = v > (vth << 6); v = 0, or v - `subtracted`, where it fired.

    decay(v) = sign(v) * ((|v| * (4096 - dv)) >> 12). The synaptic current decays fully within a step (du =
    4095). `tau`, `threshold` and `fire` are those of the float neuron, which weights and vth stand for. With
    `clips`, v is clipped to 24 bits before it is compared, as a core does; without, it must never get there.
    """

    dv: int
    vth: int
    clips: bool = False

    LATER: ClassVar[frozenset[str]] = LIF.LATER | {"clips"}
    RANGES: ClassVar[dict[str, AttributeRange]] = {"dv": within(0, 4096), "vth": within(0, VTH_LIMIT)}

    @property
    def subtracted(self) -> int:
        """What a spike takes off a membrane that is reset by subtraction: the float neuron's threshold.

        That is one step above vth where the float neuron fires at >= (docs/integer.md).
        """
        return (self.vth + (self.fire == ">=")) << ALIGN

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound spikes; the membrane must fit."""
        steps = 1 if self.phase == Phase.ONCE else at.graph.time_steps
        membrane = membrane_range(self, at.inputs["x"], steps)
        remedy = "lower the weight_exp of the layers before it, and its vth"
        at.fits("its membrane", membrane, STATE_LIMIT, remedy)
        return {"s": Range(0, 1)}


def membrane_range(node: FixedLIF, x: Range, steps: int) -> Range:
    """Range of a membrane before its reset, over `steps` steps from rest with inputs in `x`."""
    keep, threshold = 4096 - node.dv, node.vth << ALIGN
    low = high = 0
    for _ in range(steps):
        # A membrane that is kept is not above the threshold, or was above it before a subtraction.
        least, most = low, min(high, threshold)
        if node.reset == "subtract" and high > threshold:
            least, most = min(low, threshold + 1 - node.subtracted), max(most, high - node.subtracted)
        low = min(low, x.low - ((-least * keep) >> 12))
        high = max(high, x.high + ((most * keep) >> 12))
    return Range(max(low, -STATE_LIMIT), min(high, STATE_LIMIT)) if node.clips else Range(low, high)


def membrane_bound(graph: Graph, lif: FixedLIF) -> int:
    """Largest magnitude that a membrane of a quantised graph can reach, whatever the image."""
    x = graph.source_type(graph.inputs(lif)["x"])
    assert x.bound is not None  # a quantised graph is not made without
    steps = 1 if lif.phase == Phase.ONCE else graph.time_steps
    return membrane_range(lif, Range(x.low, x.bound), steps).magnitude


@dataclass(frozen=True, kw_only=True)
class SynapticCurrent(Node):
    """u = u - u / tau + x; y = u + bias: input that reaches the neurons behind it over several steps.

    x and y are maps (C, H, W) or tokens (N, D), u is 0 before the first step of an image. The bias
    (features,) enters the neurons and not u, so that it does not add up.
    """

    tau: float
    features: int
    bias: bool

    TRAITS: ClassVar[Traits] = replace(
        LIF.TRAITS,
        counts_events=False,
        fires=False,
        keeps_neurons=False,
        passes_current=True,
        in_place=True,
        masks_tokens=False,
        state="u",
    )
    needs = same_values
    memory = no_memory
    RANGES: ClassVar[dict[str, AttributeRange]] = {
        "tau": (lambda tau: tau >= 1, "a time constant of currents is at least 1 step")
    }

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        return {"bias": (self.features,)} if self.bias else {}

    def infer(self, at: TypeContext) -> dict[str, ValueType]:
        """Type currents of the shape of the input."""
        x = at.take("x", {Kind.CURRENT}, ranks=(2, 3))
        at.require(
            "x", "the number of features", x.shape[0 if len(x.shape) == 3 else 1], self.features, "features"
        )
        for edge in at.graph.consumers(self):
            if "alive" in at.graph.inputs(at.graph.node(edge.dst)):
                what = f"its current outlasts a step, and {edge.dst} is gated by halting"
                at.problems.add(self.name, what, "leave out halting: a halted token must have no input")
        return {"y": at.made(Kind.CURRENT, x.shape)}


@dataclass(frozen=True, kw_only=True)
class FixedSynapticCurrent(SynapticCurrent, integers_of=SynapticCurrent):
    """u = decay(u) + x; y = u + (bias << bias_exp).

    decay(u) = sign(u) * ((|u| * (4095 - du)) >> 12): a core adds 1 to the decay of currents.
    """

    du: int
    bias_exp: int

    RANGES: ClassVar[dict[str, AttributeRange]] = {"du": within(0, 4095), "bias_exp": within(0, 7)}

    def bound(self, at: BoundContext) -> dict[str, Range]:
        """Bound currents; they and what the neurons get must fit."""
        steps = 1 if self.phase == Phase.ONCE else at.graph.time_steps
        remedy = "lower the weight_exp of the layers before it, or use fewer steps"
        u = current_range(self, at.inputs["x"], steps)
        at.fits("its current", u, STATE_LIMIT, remedy)
        if not self.bias:
            return {"y": u}
        bias = at.tensor("bias")
        at.fits("a bias", Range(int(bias.min()), int(bias.max())), BIAS_LIMIT, "raise its bias_exp")
        bias <<= self.bias_exp
        y = Range(u.low + int(bias.min()), u.high + int(bias.max()))
        at.fits("its output", y, STATE_LIMIT, remedy)
        return {"y": y}


def current_range(node: FixedSynapticCurrent, x: Range, steps: int) -> Range:
    """Range of a current over `steps` steps from 0 with inputs in `x`."""
    keep = 4095 - node.du
    low = high = 0
    for _ in range(steps):
        low, high = min(low, x.low - ((-low * keep) >> 12)), max(high, x.high + ((high * keep) >> 12))
    return Range(low, high)
