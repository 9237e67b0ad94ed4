"""The integer program as a torch module, to fine-tune weights through the arithmetic of a core.

Values are integers stored as float32, exact below 2^24, which the quantised graph guarantees. Every rounding
has a straight-through gradient (Bengio et al., arXiv 1308.3432), and a spike the surrogate of training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from stas_neuro.bundle import hash_network
from stas_neuro.errors import InputError
from stas_neuro.ir import (
    ALIGN,
    BIAS_LIMIT,
    POLICIES,
    QUANTISED,
    Array,
    FixedAdd,
    FixedConv2d,
    FixedHaltAccumulate,
    FixedHaltingScore,
    FixedHeadSum,
    FixedImageScore,
    FixedInput,
    FixedIntegrate,
    FixedLateHaltAccumulate,
    FixedLIF,
    FixedLinear,
    FixedMaskedColumnSum,
    FixedOutput,
    FixedReadout,
    FixedSpikeMatMul,
    FixedSynaptic,
    FixedSynapticCurrent,
    FixedTokenMean,
    Graph,
    Shape,
    per_op,
)
from stas_neuro.models.halting import over_groups
from stas_neuro.models.lif import SURROGATE_SLOPE
from stas_neuro.models.stas import Output
from stas_neuro.passes import LayerUnits, Quantise, with_identity_synapses
from stas_neuro.training.execution import (
    MOVES,
    GraphModule,
    Inputs,
    Operators,
    Run,
    State,
    attend,
    straight,
)
from stas_neuro.training.floats import refuse_soft_resets


def _floor(x: Tensor, bits: int) -> Tensor:
    """Return `x` shifted right by `bits`, rounded towards minus infinity."""
    if not bits:
        return x
    exact = x / 2**bits
    return straight(exact.floor(), exact)


def _sent(x: Tensor, bits: int) -> Tensor:
    """Return `x` rounded to multiples of 2^bits, in units of these."""
    return _floor(x + 2.0 ** (bits - 1), bits) if bits else x


def _convolve(node: FixedConv2d, x: Tensor, weight: Tensor) -> Tensor:
    return nn.functional.conv2d(x, weight, None, node.stride, node.padding, node.dilation, node.groups)


class IntegerLayer(nn.Module):
    """Float weights of a Conv2d or Linear, rounded to mantissas whenever they are used.

    Parameters
    ----------
    node
        The integer form of the layer.
    units
        Units of its integers.
    weight, bias
        Parameters of the folded layer, which are trained in float32; a layer without a bias gets none.
    image_shape : (C, H, W)
        Shape of the image; used by the first convolution, which includes the normalisation of the image.
    """

    def __init__(
        self,
        node: FixedSynaptic,
        units: LayerUnits,
        weight: Array,
        bias: Array | None,
        image_shape: Shape,
    ) -> None:
        super().__init__()
        self.node, self.unit, self.divisor, self.offset = node, units.scale.unit, units.divisor, units.offset
        self.weight = nn.Parameter(torch.from_numpy(weight.astype(np.float32)))
        self.bias: Tensor
        if bias is None:  # a bias that was learnt would reach halted tokens
            self.register_buffer("bias", torch.zeros(len(weight)))
        else:
            self.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32)))
        self.exponents = torch.tensor(units.scale.exponents)
        # Float64, so that rounding is the same as in the Quantise pass.
        columns = torch.from_numpy(units.column_unit)
        per_row = self.unit * self.divisor * 2.0 ** (self.exponents - units.scale.x_shift + ALIGN)
        self.steps = (columns / per_row.double()[:, None]).reshape(weight.shape)
        self.background = None
        if units.black is not None:
            black = torch.from_numpy(units.black).reshape(1, -1, 1, 1)
            self.background = black.expand(1, *image_shape)

    def integers(self) -> tuple[Tensor, Tensor]:
        """Return mantissas of the weights, and biases in membrane units, both float32 with gradients."""
        grain = 1 << (9 - self.node.weight_bits)
        largest = 255 if grain == 1 else 256 - grain
        steps = (self.weight.double() * self.steps).clamp(-256, largest)
        mantissas = straight((steps / grain).round() * grain, steps)
        held = mantissas / self.steps / self.divisor
        bias = self.bias.double() / self.divisor
        if self.offset:
            bias = bias + held.sum(1).reshape(-1, *[1] * (bias.ndim - 1)) * self.offset
        if self.background is not None:
            assert isinstance(self.node, FixedConv2d)
            border = _convolve(self.node, self.background, held)
            bias = bias.reshape(len(bias), *(bias.shape[1:] or (1, 1))) + border[0]
            bias = bias if self.node.bias_map else bias[:, 0, 0]
        exact = (bias / self.unit / 2**self.node.bias_exp).clamp(-BIAS_LIMIT, BIAS_LIMIT)
        rounded = straight(exact.round(), exact) * 2**self.node.bias_exp
        return mantissas.float(), rounded.float()

    @torch.no_grad()
    def held(self) -> tuple[Tensor, Tensor]:
        """Return the weight and bias of a folded layer that the integers represent, float64."""
        mantissas, bias = self.integers()
        # A bias that includes a background or an offset is rounded together with these.
        alone = self.background is None and not self.offset
        return (
            mantissas.double() / self.steps,
            bias.double() * self.unit * self.divisor if alone else self.bias.detach(),
        )

    def current(self, x: Tensor, mantissas: Tensor) -> Tensor:
        """Return the synaptic input without the bias: (shift(W x, weight_exp) << 6)."""
        if self.node.x_shift:  # float64, because sums of graded values may reach 2^25 before they are shifted
            x, mantissas = _sent(x, self.node.x_shift).double(), mantissas.double()
        if isinstance(self.node, FixedConv2d):
            sums = _convolve(self.node, x, mantissas)
            powers = (2.0**self.exponents).float().reshape(-1, 1, 1)
        else:
            sums, powers = x @ mantissas.T, (2.0**self.exponents).float()
        exact = sums * powers
        y: Tensor = straight(exact.floor(), exact) * 2**ALIGN  # an integer already unless shifted right
        return y.float()


def _surrogate_lif(v: Tensor, x: Tensor, keep: int, vth: Tensor, real: float) -> tuple[Tensor, Tensor]:
    """Run one step from membranes v with input x; return spikes and membranes.

    `real` is the float threshold.
    """
    # Float64 unless the decay is a halving: the product has 24 + 12 bits.
    exact = v * 0.5 if keep == 2048 else v.double() * (keep / 4096)
    v = straight(exact.trunc(), exact).float() + x
    threshold = vth * 2**ALIGN
    spikes = (v > threshold).to(v)
    away = SURROGATE_SLOPE * real * (v / threshold.clamp(min=1.0) - 1)
    smooth = torch.tanh(away) / SURROGATE_SLOPE  # its derivative is 1 - tanh(away)^2
    spikes = straight(spikes, smooth)
    return spikes, v * (1 - spikes.detach())


class IntegerProgram(GraphModule):
    """A trainable quantised graph; it computes the same as the integer reference.

    Images are normalised as for a `StasModel`, which it replaces in training.

    Parameters
    ----------
    graph, folded
        The quantised graph, and the float graph that it was made from.
    layers
        The layers by name.
    fuse
        Whether torch.compile fuses the neurons' arithmetic.
    """

    def __init__(
        self, graph: Graph, folded: Graph, layers: Mapping[str, IntegerLayer], *, fuse: bool = False
    ) -> None:
        super().__init__(graph)
        self.folded = folded
        self.names = {name: name.replace(".", "/") for name in layers}  # module names must not have dots
        self.layers = nn.ModuleDict({self.names[name]: layer for name, layer in layers.items()})
        self.lif = torch.compile(_surrogate_lif, dynamic=False) if fuse else _surrogate_lif
        mean, std = (torch.tensor(getattr(graph.preprocessing, key)) for key in ("mean", "std"))
        self.mean, self.std = mean.reshape(-1, 1, 1), std.reshape(-1, 1, 1)
        image = graph.input
        assert isinstance(image, FixedInput)  # of a quantised graph
        self.largest = image.largest

    @property
    def identity(self) -> str:
        """A hash of the integers that it starts with, and of the weights that they were rounded from."""
        return hash_network(self.graph) + hash_network(self.folded)

    def layer(self, name: str) -> IntegerLayer:
        """Return the layer of a node."""
        layer = self.layers[self.names[name]]
        assert isinstance(layer, IntegerLayer)
        return layer

    def held(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the weight and bias of the folded layer that the integers of each layer represent."""
        return {name: self.layer(name).held() for name in self.names}

    def trained(self) -> Graph:
        """Return the float graph with the weights that the integers represent, float64."""
        tensors = dict(self.folded.tensors)
        for name, (weight, bias) in self.held().items():
            held = {f"{name}/weight": weight, f"{name}/bias": bias}
            tensors |= {key: held[key].double().numpy() for key in held if key in tensors}
        return dataclasses.replace(self.folded, tensors=tensors)

    def forward(self, images: Tensor, *, skip: bool = False) -> Output:
        """Classify (B, C, H, W), or (B, T, C, H, W); halted tokens are computed and masked, `skip` or not."""
        pixels = ((images.float() * self.std + self.mean) * self.largest).round()
        return _Run(self, pixels).output()


def program_of(folded: Graph, quantise: Quantise, *, fuse: bool = False) -> IntegerProgram:
    """Return the program of a folded graph at given scales; ``fuse`` compiles the neurons' arithmetic.

    Raises
    ------
    InputError
        If the graph halts by image, whose decisions have no gradient and follow the head while it trains.
    """
    refuse_soft_resets(folded)
    if folded.accumulators and POLICIES[folded.halting].by_image:
        raise InputError(
            f"halting {folded.halting} is not fine-tuned to integers: its decisions come from the head, "
            "without gradient",
            "fine-tune the model without halting, then compile it with --halting image",
        )
    folded = with_identity_synapses(folded)
    graph, units = quantise.explained(folded)
    layers = {
        node.name: IntegerLayer(
            node,
            units[node.name],
            folded.tensor(node.name, "weight"),
            folded.tensors.get(f"{node.name}/bias"),
            folded.input.shape,
        )
        for node in graph.nodes
        if isinstance(node, FixedSynaptic)
    }
    return IntegerProgram(graph, folded, layers, fuse=fuse)


class _Run(Run):
    """One forward pass, with the integers of all layers."""

    def __init__(self, program: IntegerProgram, pixels: Tensor) -> None:
        super().__init__(program.graph, pixels, _OPERATORS)
        self.program = program
        self.integers = {name: program.layer(name).integers() for name in program.names}

    def _synapses(self, node: FixedSynaptic, inputs: Inputs) -> State:
        mantissas, bias = self.integers[node.name]
        y = self.program.layer(node.name).current(inputs["x"], mantissas)
        if isinstance(node, FixedConv2d):
            y = y + (bias if bias.ndim == 3 else bias[:, None, None])
            return {"y": _floor(y, node.bias_exp) * 2**node.bias_exp if node.off_core else y}
        return {"y": y + (bias if "alive" not in inputs else bias * inputs["alive"][..., None])}

    def _lif(self, node: FixedLIF, inputs: Inputs) -> State:
        x = inputs["x"]
        state = self.state.setdefault(node.name, {"v": torch.zeros_like(x)})
        vth = torch.tensor(float(node.vth))
        spikes, state["v"] = self.program.lif(state["v"], x, 4096 - node.dv, vth, node.threshold)
        return {"s": spikes}

    def _current(self, node: FixedSynapticCurrent, inputs: Inputs) -> State:
        x = inputs["x"]
        state = self.state.setdefault(node.name, {"u": torch.zeros_like(x)})
        exact = state["u"].double() * ((4095 - node.du) / 4096)
        u = state["u"] = straight(exact.trunc(), exact).float() + x
        if node.bias:
            bias = torch.from_numpy(self.graph.tensor(node, "bias").astype(np.float32)) * 2**node.bias_exp
            u = u + (bias[:, None, None] if x.ndim == 4 else bias)
        return {"y": u}

    def _integrate(self, node: FixedIntegrate, inputs: Inputs) -> State:
        x = inputs["x"]
        if node.mode == "max":
            return {"y": x.amax(0)}
        if node.mode != "learned":
            return {"y": x.sum(0)}
        # Float64, because the sum may reach 2^31 before it is shifted.
        weights = torch.from_numpy(self.graph.tensor(node, "weights").astype(np.float64))
        return {"y": _floor(torch.tensordot(weights, x.double(), dims=1), node.shift).float()}

    def _token_mean(self, node: FixedTokenMean, inputs: Inputs) -> State:
        return {"y": _sent(inputs["x"], node.x_shift).sum(1, keepdim=True)}

    def _add(self, node: FixedAdd, inputs: Inputs) -> State:
        return {"y": node.a_weight * inputs["a"] + node.b_weight * inputs["b"]}

    def _attention(self, node: FixedSpikeMatMul, inputs: Inputs) -> State:
        return {"y": attend(inputs, node.heads) * 2 ** (ALIGN + node.exponent)}

    def _columns(self, node: FixedMaskedColumnSum, inputs: Inputs) -> State:
        return {"y": (inputs["k"] * inputs["v"]).sum(1) * 2 ** (ALIGN + node.exponent)}

    def _head_sum(self, node: FixedHeadSum, inputs: Inputs) -> State:
        return {"y": inputs["x"].unflatten(-1, (node.heads, -1)).sum(-1) * 2 ** (ALIGN + node.exponent)}

    def _score(self, node: FixedHaltingScore, inputs: Inputs) -> State:
        z = over_groups(inputs["z"][:, :, 0], node.groups)
        table = torch.from_numpy(self.graph.tensor(node, "table").astype(np.float32))
        index = ((z / 2**node.shift).floor() - node.low).clamp(0, node.entries - 1)
        # The gradient is the slope between the neighbouring entries of the table.
        right, left = (index + 1).clamp(max=node.entries - 1), (index - 1).clamp(min=0)
        rise = (table[right.long()] - table[left.long()]) / 2 / 2**node.shift
        return {"h": straight(table[index.long()], (z * rise.detach()))}

    def _accumulate(self, node: FixedHaltAccumulate, inputs: Inputs) -> State:
        return self.decide(node, inputs, node.limit, 1 << node.score_bits)

    def _readout(self, node: FixedReadout, inputs: Inputs) -> State:
        z = {
            block: _floor(inputs[f"z{block}"], node.z_shift).clamp(-node.z_limit, node.z_limit)
            for block in range(node.blocks)
            if f"z{block}" in inputs
        }
        tokens, weight = self.gather(node, z, inputs)
        if not self.last_step:
            return {}
        if node.divides:
            # Float64, because a dividend may reach 2^31.
            exact = tokens.double() * 2**node.divide_bits / weight.clamp(min=1).double()
            tokens = straight(exact.trunc(), exact)
        y = tokens.double().sum(1)
        return {"y": _floor(y, node.y_shift).float()}

    def _logits(self, node: FixedOutput, inputs: Inputs) -> State:
        return {"x": inputs["x"] * node.unit}


_OPERATORS: Operators = per_op(
    "operators of training with integers",
    {
        **MOVES,
        FixedInput: _Run.frame,
        FixedConv2d: _Run._synapses,
        FixedLinear: _Run._synapses,
        FixedLIF: _Run._lif,
        FixedSynapticCurrent: _Run._current,
        FixedIntegrate: _Run._integrate,
        FixedTokenMean: _Run._token_mean,
        FixedAdd: _Run._add,
        FixedSpikeMatMul: _Run._attention,
        FixedMaskedColumnSum: _Run._columns,
        FixedHeadSum: _Run._head_sum,
        FixedHaltingScore: _Run._score,
        FixedHaltAccumulate: _Run._accumulate,
        FixedReadout: _Run._readout,
        FixedOutput: _Run._logits,
    },
    of=QUANTISED,
    without=(
        FixedImageScore,  # halting by image: `program_of` refuses it
        FixedLateHaltAccumulate,  # decisions are delayed after training
    ),
)
