"""Nodes and edges of the IR: attributes, ports and the tensors each node carries. Pure data.

Shapes: N tokens (row-major over the patch grid) of D channels are (N, D), maps (C, H, W), per-token values
(N,). A node's `name` is its torch module path, `scope` says which part of the model it belongs to ("stem",
"block0", ..., "halting", "head"). Tensors live in the graph under `"<name>/<param>"`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from stas_neuro.ir.types import Phase, Shape

Fire = Literal[">", ">="]
IntegrateMode = Literal["max", "mean", "sum", "learned"]
MatMulForm = Literal["(QK^T)V", "Q(K^TV)"]
GateAxis = Literal["token", "channel"]
HaltMode = Literal["raster", "rectangular", "block", "time"]
ReadoutMode = Literal["mean-field", "last-state", "rate"]


@dataclass(frozen=True, kw_only=True)
class Node:
    """Base of all nodes."""

    name: str
    phase: Phase
    scope: str

    INPUTS: ClassVar[tuple[str, ...]] = ("x",)
    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    OUTPUTS: ClassVar[tuple[str, ...]] = ("y",)

    @property
    def required_inputs(self) -> tuple[str, ...]:
        """Input ports that must be connected."""
        return self.INPUTS

    @property
    def optional_inputs(self) -> tuple[str, ...]:
        """Input ports that may be left open."""
        return self.OPTIONAL

    @property
    def input_ports(self) -> tuple[str, ...]:
        """All input ports, in the order they are printed."""
        return self.required_inputs + self.optional_inputs

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name, in a graph of `time_steps` steps."""
        return {}


@dataclass(frozen=True)
class Edge:
    """Output port `src:src_port` feeds input port `dst:dst_port`.

    `delay` 1 brings the value of the previous model step (`types.neutral` before the first).
    """

    src: str
    src_port: str
    dst: str
    dst_port: str
    delay: int = 0

    def __str__(self) -> str:
        return f"{self.src}:{self.src_port} -> {self.dst}:{self.dst_port}"


@dataclass(frozen=True, kw_only=True)
class Input(Node):
    """Preprocessed image (phase once), or one frame of event data a step (phase stem or step)."""

    shape: Shape

    INPUTS: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True, kw_only=True)
class Conv2d(Node):
    """Cross-correlation with square kernel, zero padding: x (Cin, H, W) -> y (Cout, H', W')."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    padding: int
    bias: bool

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        weight = (self.out_channels, self.in_channels, self.kernel, self.kernel)
        return {"weight": weight} | ({"bias": (self.out_channels,)} if self.bias else {})


@dataclass(frozen=True, kw_only=True)
class Linear(Node):
    """y = x W^T + alive * bias, per token; on x (D,) without alive."""

    in_features: int
    out_features: int
    bias: bool

    OPTIONAL: ClassVar[tuple[str, ...]] = ("alive",)

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        weight = (self.out_features, self.in_features)
        return {"weight": weight} | ({"bias": (self.out_features,)} if self.bias else {})


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Node):
    """y = ((x - mean) / sqrt(var + eps) * gamma + beta) * alive.

    Features are axis 0 of a map, the last axis of tokens.
    """

    features: int
    eps: float

    OPTIONAL: ClassVar[tuple[str, ...]] = ("alive",)

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        return {param: (self.features,) for param in ("gamma", "beta", "mean", "var")}


@dataclass(frozen=True, kw_only=True)
class LIF(Node):
    """v = v + (x - v) / tau; s = v `fire` threshold; v = 0 where it fired.

    `alive` is a gating hint and changes no result: a dead token has x = 0, so it only leaks.
    In phase once it runs one step from v = 0; the state starts at 0 for each image.
    """

    tau: float = 2.0
    threshold: float
    fire: Fire

    OPTIONAL: ClassVar[tuple[str, ...]] = ("alive",)
    OUTPUTS: ClassVar[tuple[str, ...]] = ("s",)


@dataclass(frozen=True, kw_only=True)
class SpikeMaxPool(Node):
    """Max pool of spikes, which is their OR: x (C, H, W) -> y (C, H', W')."""

    kernel: int
    stride: int
    padding: int


@dataclass(frozen=True, kw_only=True)
class Integrate(Node):
    """Reduces a value of the T stem steps to one value (phase once). `learned` weighs the steps."""

    mode: IntegrateMode

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name."""
        return {"weights": (time_steps,)} if self.mode == "learned" else {}


@dataclass(frozen=True, kw_only=True)
class Tokens(Node):
    """Map to tokens: x (D, H, W) -> y (H*W, D), row-major."""


@dataclass(frozen=True, kw_only=True)
class Add(Node):
    """y = a + b, same shape."""

    INPUTS: ClassVar[tuple[str, ...]] = ("a", "b")


@dataclass(frozen=True, kw_only=True)
class SpikeMatMul(Node):
    """Softmax-free attention: per head of D/heads contiguous channels, y = scale * (q k^T) v.

    `form` is the order of the two products: equal results on spikes, other operation counts.
    """

    heads: int
    scale: float = 0.125
    form: MatMulForm

    INPUTS: ClassVar[tuple[str, ...]] = ("q", "k", "v")


@dataclass(frozen=True, kw_only=True)
class MaskedColumnSum(Node):
    """Spike-driven attention: k, v (N, D) -> y (D,), the sum over tokens of k * v."""

    INPUTS: ClassVar[tuple[str, ...]] = ("k", "v")


@dataclass(frozen=True, kw_only=True)
class Gate(Node):
    """y = x * mask, mask (N,) per token or (D,) per channel, x (N, D)."""

    axis: GateAxis

    INPUTS: ClassVar[tuple[str, ...]] = ("x", "mask")


@dataclass(frozen=True, kw_only=True)
class HaltingScore(Node):
    """h = sigmoid(alpha * z[:, 0] + beta): z (N, D) -> h (N,)."""

    alpha: float
    beta: float

    INPUTS: ClassVar[tuple[str, ...]] = ("z",)
    OUTPUTS: ClassVar[tuple[str, ...]] = ("h",)


@dataclass(frozen=True, kw_only=True)
class HaltAccumulate(Node):
    """Accumulates halting scores (docs/adr/0002-ir.md has the four modes); all values (N,).

    In: score h, alive a (open = 1), total H (open = 0). Out: alive and total for the next visit, p the weight
    of this one.

    With `late` above 0 (modes raster and time) decisions are `late` hardware steps late: the next visit's
    alive rests on the scores that have arrived by then, p on all. Then `total` is no sum but (T*A, N), the
    scores of the last T visits of A accumulators in raster order, 0 where the token did not visit. `lags`
    (A,) says of the last A of them, the newest last, by how many model steps they come later than in raster
    order; it holds for those A visits earlier alike, and so on.
    """

    mode: HaltMode
    epsilon: float
    last_block: bool
    late: int = 0
    lags: tuple[int, ...] = ()

    INPUTS: ClassVar[tuple[str, ...]] = ("score",)
    OPTIONAL: ClassVar[tuple[str, ...]] = ("alive", "total")
    OUTPUTS: ClassVar[tuple[str, ...]] = ("alive", "total", "p")


@dataclass(frozen=True, kw_only=True)
class Readout(Node):
    """Step values z{l} (N, D) of `blocks` blocks -> y (D,), with alive{l} and p{l} (N,) where halting is on.

    mean-field: mean_k(sum of p z / (sum of p if normalise else 1)), without p the weight is 1/T.
    last-state: mean_k of z at the token's last visited visit. rate: per step z of the token's last visited
    block, averaged over its visited steps, then mean_k. An open alive{l} means always visited.
    """

    mode: ReadoutMode
    blocks: int
    normalise: bool = False

    INPUTS: ClassVar[tuple[str, ...]] = ()

    @property
    def required_inputs(self) -> tuple[str, ...]:
        """The last block's value: every mode reads it."""
        return (f"z{self.blocks - 1}",)

    @property
    def optional_inputs(self) -> tuple[str, ...]:
        """Earlier blocks' values, then the masks, then the weights."""
        earlier = tuple(f"z{block}" for block in range(self.blocks - 1))
        return earlier + tuple(f"{port}{block}" for port in ("alive", "p") for block in range(self.blocks))


@dataclass(frozen=True, kw_only=True)
class Output(Node):
    """The logits: x (classes,)."""

    OUTPUTS: ClassVar[tuple[str, ...]] = ()


FLOAT_NODES: tuple[type[Node], ...] = (
    Input, Conv2d, Linear, BatchNorm, LIF, SpikeMaxPool, Integrate, Tokens, Add, SpikeMatMul,
    MaskedColumnSum, Gate, HaltingScore, HaltAccumulate, Readout, Output,
)  # fmt: skip
"""Every node type of the traced and folded stages."""
