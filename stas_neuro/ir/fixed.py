"""Nodes of the quantised stage: what the float nodes become on a core that computes in integers.

A node here keeps the ports and attributes of the float one it stands for and adds its integers; all its
tensors are int16. Membranes and synaptic input share one unit a layer; both are aligned 6 bits (`ALIGN`)
above what synapses and thresholds store, as on Loihi. `x >> n` rounds towards minus infinity, as in two's
complement.
docs/integer.md tells the arithmetic, and why nothing can overflow in a graph that was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stas_neuro.ir.nodes import (
    FLOAT_NODES,
    LIF,
    Add,
    Conv2d,
    HaltAccumulate,
    HaltingScore,
    Input,
    Integrate,
    Linear,
    MaskedColumnSum,
    Node,
    Output,
    Readout,
    SpikeMatMul,
)
from stas_neuro.ir.types import Shape

ALIGN = 6
"""Bits by which a core shifts synaptic input and thresholds up to the membrane's unit."""
STATE_LIMIT = 2**23 - 1
"""Largest magnitude of a membrane or of synaptic input: 24 bits with sign."""
WORD_LIMIT = 2**31 - 1
"""Largest magnitude in a division, which no core does: a 32-bit processor beside them."""
PIXEL_LIMIT = 255
"""Largest value of the 8-bit integers that an image enters as."""

Encoding = Literal["graded", "bias"]


@dataclass(frozen=True, kw_only=True)
class FixedInput(Input):
    """The image as integers 0..255, not normalised: the first convolution holds the normalisation.

    `graded`: a pixel is a graded spike. `bias`: what the first convolution makes of it is computed off the
    cores and enters as bias currents.
    """

    encoding: Encoding


@dataclass(frozen=True, kw_only=True)
class FixedConv2d(Conv2d):
    """y = (shift(sum of weight * x, weight_exp) << 6) + (bias << bias_exp).

    shift is to the left for an exponent above 0, else to the right. `weight` are mantissas in [-256, 255],
    multiples of 2^(9 - weight_bits), `weight_exp` (Cout,) their exponents -8..7, `bias` 13-bit mantissas,
    (Cout,) or a map (Cout, *bias_map) where they hold the border of a normalised image. `off_core`: computed
    by a processor beside the cores, and its y is rounded to a bias current, (y >> bias_exp) << bias_exp.
    """

    weight_bits: int
    bias_exp: int
    bias_map: Shape = ()
    off_core: bool = False

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        return {
            "weight": (self.out_channels, self.in_channels, self.kernel, self.kernel),
            "weight_exp": (self.out_channels,),
            "bias": (self.out_channels, *self.bias_map),
        }


@dataclass(frozen=True, kw_only=True)
class FixedLinear(Linear):
    """y = alive * ((shift(x W^T, weight_exp) << 6) + (bias << bias_exp)), as of `FixedConv2d`.

    A dead token's x is 0, so that only its bias has to be held back.
    """

    weight_bits: int
    bias_exp: int

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        features = (self.out_features,)
        return {"weight": (self.out_features, self.in_features), "weight_exp": features, "bias": features}


@dataclass(frozen=True, kw_only=True)
class FixedLIF(LIF):
    """v = decay(v) + x; s = v > (vth << 6); v = 0 where it fired.

    decay(v) = sign(v) * ((|v| * (4096 - dv)) >> 12). The synaptic current decays fully within a step (du =
    4095). `tau`, `threshold` and `fire` are those of the float neuron, which weights and vth stand for.
    """

    dv: int
    vth: int


@dataclass(frozen=True, kw_only=True)
class FixedAdd(Add):
    """y = a_weight * a + b_weight * b.

    The weights are 1 but where a mean or a weighted sum over steps has left a finer unit than a spike's.
    """

    a_weight: int = 1
    b_weight: int = 1


@dataclass(frozen=True, kw_only=True)
class FixedSpikeMatMul(SpikeMatMul):
    """y = ((q k^T) v) << (6 + exponent), per head; `scale` is in the threshold of the LIF behind it."""

    exponent: int


@dataclass(frozen=True, kw_only=True)
class FixedMaskedColumnSum(MaskedColumnSum):
    """y = (sum over tokens of k * v) << (6 + exponent)."""

    exponent: int


@dataclass(frozen=True, kw_only=True)
class FixedIntegrate(Integrate):
    """Max, or sum over the T steps (that of `mean` too: what follows holds the 1/T).

    learned: y = (sum over t of weights[t] * x[t]) >> shift, weights of 16 bits.
    """

    shift: int


@dataclass(frozen=True, kw_only=True)
class FixedHaltingScore(HaltingScore):
    """h = table[clip(z[:, 0] >> shift, low, low + entries - 1) - low]: the sigmoid as a table of integers."""

    shift: int
    low: int
    entries: int

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        return {"table": (self.entries,)}


@dataclass(frozen=True, kw_only=True)
class FixedHaltAccumulate(HaltAccumulate):
    """As the float one, with 1 = 2^score_bits and `limit` for 1 - epsilon.

    p of mode block is not divided by T: the unit of what follows holds that.
    """

    score_bits: int
    limit: int


@dataclass(frozen=True, kw_only=True)
class FixedReadout(Readout):
    """Sums over tokens, of z' = clip(z >> z_shift, -z_limit, z_limit) in place of z.

    mean-field: y = (sum of p z') >> y_shift (p = 1 where it is open). last-state: y = (sum of z') >> y_shift.
    Where the float node divides by a weight w (normalise, rate; w = 0 counts as 1), each token's sum becomes
    (sum << divide_bits) / w, rounded towards 0, on a processor beside the cores.
    """

    z_shift: int
    z_limit: int
    divide_bits: int
    y_shift: int

    @property
    def divides(self) -> bool:
        """Whether sums are divided by weights."""
        return self.normalise or self.mode == "rate"


@dataclass(frozen=True, kw_only=True)
class FixedOutput(Output):
    """The logits as integers; times `unit` they are those of the float network, but for rounding."""

    unit: float


_FIXED: tuple[type[Node], ...] = (
    FixedInput, FixedConv2d, FixedLinear, FixedLIF, FixedAdd, FixedSpikeMatMul, FixedMaskedColumnSum,
    FixedIntegrate, FixedHaltingScore, FixedHaltAccumulate, FixedReadout, FixedOutput,
)  # fmt: skip
NODE_TYPES: dict[str, type[Node]] = {cls.__name__: cls for cls in (*FLOAT_NODES, *_FIXED)}
"""Every node type by the name it has in files."""
FLOAT_OF: dict[type[Node], type[Node]] = {cls: cls.__mro__[1] for cls in _FIXED}
"""The float node type that each integer one stands for; a quantised graph holds none of those."""


def is_off_core(node: Node) -> bool:
    """Whether a processor beside the cores computes a node, wholly or in part."""
    return (isinstance(node, FixedConv2d) and node.off_core) or (
        isinstance(node, FixedReadout) and node.divides
    )


def op_of(node: Node) -> type[Node]:
    """Return what a node does, whatever the arithmetic: its type, or the float one it stands for."""
    return FLOAT_OF.get(type(node), type(node))
