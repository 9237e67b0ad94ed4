"""The integer program as a torch module, to fine-tune weights through the arithmetic of a core.

Values are integers stored as float32, exact below 2^24, which the quantised graph guarantees. Every rounding
has a straight-through gradient (Bengio et al., arXiv 1308.3432), and a spike the surrogate of training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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
    Gate,
    Graph,
    Map,
    MaxPool,
    Node,
    Phase,
    Shape,
    Slice,
    SpikeAnd,
    SpikeMaxPool,
    Tokens,
    neutral,
    per_op,
    per_policy,
)
from stas_neuro.models.config import StasConfig
from stas_neuro.models.lif import SURROGATE_SLOPE
from stas_neuro.models.stas import Output
from stas_neuro.passes import LayerUnits, Quantise

State = dict[str, Tensor]
Inputs = Mapping[str, Tensor]


def _straight(rounded: Tensor, exact: Tensor) -> Tensor:
    """Return exactly `rounded`, with the gradient of `exact`."""
    return rounded.detach() + (exact - exact.detach())


def _floor(x: Tensor, bits: int) -> Tensor:
    """Return `x` shifted right by `bits`, rounded towards minus infinity."""
    if not bits:
        return x
    exact = x / 2**bits
    return _straight(exact.floor(), exact)


def _convolve(node: FixedConv2d, x: Tensor, weight: Tensor) -> Tensor:
    return nn.functional.conv2d(x, weight, None, node.stride, node.padding, groups=node.groups)


class IntegerLayer(nn.Module):
    """Float weights of a Conv2d or Linear, rounded to mantissas whenever they are used.

    Parameters
    ----------
    node
        The integer form of the layer.
    units
        Units of its integers.
    weight, bias
        Parameters of the folded layer, which are trained in float32.
    image_shape : (C, H, W)
        Shape of the image; used by the first convolution, which includes the normalisation of the image.
    """

    def __init__(
        self,
        node: FixedSynaptic,
        units: LayerUnits,
        weight: Array,
        bias: Array,
        image_shape: Shape,
    ) -> None:
        super().__init__()
        self.node, self.unit, self.divisor, self.offset = node, units.scale.unit, units.divisor, units.offset
        self.weight = nn.Parameter(torch.from_numpy(weight.astype(np.float32)))
        self.bias = nn.Parameter(torch.from_numpy(bias.astype(np.float32)))
        self.exponents = torch.tensor(units.scale.exponents)
        # Float64, so that rounding is the same as in the Quantise pass.
        columns = torch.from_numpy(units.column_unit)
        per_row = self.unit * self.divisor * 2.0 ** (self.exponents + ALIGN)
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
        mantissas = _straight((steps / grain).round() * grain, steps)
        held = mantissas / self.steps / self.divisor
        bias = self.bias.double() / self.divisor
        if self.offset:
            bias = bias + held.sum(1) * self.offset
        if self.background is not None:
            assert isinstance(self.node, FixedConv2d)
            border = _convolve(self.node, self.background, held)
            bias = bias.reshape(-1, 1, 1) + border[0]
            bias = bias if self.node.bias_map else bias[:, 0, 0]
        exact = (bias / self.unit / 2**self.node.bias_exp).clamp(-BIAS_LIMIT, BIAS_LIMIT)
        rounded = _straight(exact.round(), exact) * 2**self.node.bias_exp
        return mantissas.float(), rounded.float()

    @torch.no_grad()
    def held(self) -> tuple[Tensor, Tensor]:
        """Return the weight and bias of a folded layer that the integers represent, float64."""
        mantissas, bias = self.integers()
        # A bias that includes a background or an offset is rounded together with these.
        alone = self.background is None and not self.offset
        return (
            mantissas.double() / self.steps,
            bias.double() * self.unit * self.divisor if alone else self.bias,
        )

    def current(self, x: Tensor, mantissas: Tensor) -> Tensor:
        """Return the synaptic input without the bias: (shift(W x, weight_exp) << 6)."""
        if isinstance(self.node, FixedConv2d):
            sums = _convolve(self.node, x, mantissas)
            powers = (2.0**self.exponents).float().reshape(-1, 1, 1)
        else:
            sums, powers = x @ mantissas.T, (2.0**self.exponents).float()
        exact = sums * powers
        y: Tensor = _straight(exact.floor(), exact) * 2**ALIGN  # an integer already unless shifted right
        return y


def _surrogate_lif(v: Tensor, x: Tensor, keep: int, vth: Tensor, real: float) -> tuple[Tensor, Tensor]:
    """Run one step from membranes v with input x; return spikes and membranes.

    `real` is the float threshold.
    """
    # Float64 unless the decay is a halving: the product has 24 + 12 bits.
    exact = v * 0.5 if keep == 2048 else v.double() * (keep / 4096)
    v = _straight(exact.trunc(), exact).float() + x
    threshold = vth * 2**ALIGN
    spikes = (v > threshold).to(v)
    away = SURROGATE_SLOPE * real * (v / threshold.clamp(min=1.0) - 1)
    smooth = torch.tanh(away) / SURROGATE_SLOPE  # its derivative is 1 - tanh(away)^2
    spikes = _straight(spikes, smooth)
    return spikes, v * (1 - spikes.detach())


class IntegerProgram(nn.Module):
    """A trainable quantised graph; it computes the same as the integer reference.

    Images are normalised as for a `StasModel`, which it replaces in training.
    """

    def __init__(
        self, config: StasConfig, graph: Graph, layers: Mapping[str, IntegerLayer], *, fuse: bool = False
    ) -> None:
        super().__init__()
        self.config, self.graph = config, graph
        self.names = {name: name.replace(".", "/") for name in layers}  # module names must not have dots
        self.layers = nn.ModuleDict({self.names[name]: layer for name, layer in layers.items()})
        self.lif = torch.compile(_surrogate_lif, dynamic=False) if fuse else _surrogate_lif
        mean, std = (torch.tensor(getattr(graph.preprocessing, key)) for key in ("mean", "std"))
        self.mean, self.std = mean.reshape(-1, 1, 1), std.reshape(-1, 1, 1)
        image = graph.input
        assert isinstance(image, FixedInput)  # of a quantised graph
        self.largest = image.largest

    def layer(self, name: str) -> IntegerLayer:
        """Return the layer of a node."""
        layer = self.layers[self.names[name]]
        assert isinstance(layer, IntegerLayer)
        return layer

    def held(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the weight and bias of the folded layer that the integers of each layer represent."""
        return {name: self.layer(name).held() for name in self.names}

    def commit_statistics(self) -> None:
        """Do nothing: folding has removed all normalisations."""

    def forward(self, images: Tensor, *, skip: bool = False) -> Output:
        """Classify (B, C, H, W), or (B, T, C, H, W); halted tokens are computed and masked, `skip` or not."""
        pixels = ((images.float() * self.std + self.mean) * self.largest).round()
        return _Pass(self, pixels).output()


def program_of(
    config: StasConfig, folded: Graph, quantise: Quantise, *, fuse: bool = False
) -> IntegerProgram:
    """Return the program of a folded graph at given scales; ``fuse`` compiles the neurons' arithmetic.

    Raises
    ------
    InputError
        If the graph halts by image, whose decisions have no gradient and follow the head while it trains.
    """
    if folded.accumulators and POLICIES[folded.halting].by_image:
        raise InputError(
            f"halting {folded.halting} is not fine-tuned: its decisions come from the head, without gradient",
            "fine-tune the model with accumulate off, then compile it with --halting image",
        )
    graph, units = quantise.explained(folded)
    layers = {
        node.name: IntegerLayer(
            node,
            units[node.name],
            folded.tensor(node.name, "weight"),
            folded.tensor(node.name, "bias"),
            folded.input.shape,
        )
        for node in graph.nodes
        if isinstance(node, FixedSynaptic)
    }
    return IntegerProgram(config, graph, layers, fuse=fuse)


class _Pass:
    """One forward pass, with values by output port and states by node."""

    def __init__(self, program: IntegerProgram, pixels: Tensor) -> None:
        self.program, self.graph, self.pixels = program, program.graph, pixels
        self.integers = {name: program.layer(name).integers() for name in program.names}
        self.values: dict[tuple[str, str], Tensor] = {}
        self.previous: dict[tuple[str, str], Tensor] = {}
        self.stem: dict[tuple[str, str], list[Tensor]] = {}
        self.state: dict[str, State] = {}
        self.step = 0
        self.masks: list[Tensor] = []
        self.ponder = pixels.new_zeros(())

    def output(self) -> Output:
        graph = self.graph
        by_phase: dict[Phase, list[Node]] = {phase: [] for phase in Phase}
        for node in graph.nodes:
            # The readout gathers during the steps, and has its output at their end.
            by_phase[Phase.STEP if node.traits.gathers else node.phase].append(node)
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
            self.previous = dict(self.values)
            self._all(by_phase[Phase.STEP])
        self._all(by_phase[Phase.END])
        logits = self.values[graph.output.name, "x"]
        shape = (len(logits), graph.time_steps, graph.blocks, graph.tokens)
        visits = torch.ones(shape, dtype=torch.bool)
        if self.masks:
            stacked = torch.stack(self.masks, 1).bool().unflatten(1, (graph.time_steps, -1))
            visits = stacked.expand(shape) if stacked.shape[2] == 1 else stacked
        return Output(logits, visits, self.ponder)

    def _all(self, nodes: list[Node]) -> None:
        for node in nodes:
            inputs = {port: self._input(node, port) for port in self.graph.inputs(node)}
            outputs = _OPERATORS[type(node)](self, node, inputs)
            self.values.update({(node.name, port): value for port, value in outputs.items()})

    def _input(self, node: Node, port: str) -> Tensor:
        edge = self.graph.inputs(node)[port]
        key = edge.src, edge.src_port
        if node.traits.stacks:
            return torch.stack(self.stem[key])
        if edge.delay:
            if self.step == 0:
                shape = (len(self.pixels), *self.graph.types[key].shape)
                return torch.full(shape, neutral(port))
            return self.previous[key]
        return self.values[key]

    # Operators ----------------------------------------------------------------------------------------------

    def _frame(self, node: FixedInput, inputs: Inputs) -> State:
        return {"y": self.pixels if node.phase == Phase.ONCE else self.pixels[:, self.step]}

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
        u = state["u"] = _straight(exact.trunc(), exact).float() + x
        if node.bias:
            bias = torch.from_numpy(self.graph.tensor(node, "bias").astype(np.float32)) * 2**node.bias_exp
            u = u + (bias[:, None, None] if x.ndim == 4 else bias)
        return {"y": u}

    def _pool(self, node: SpikeMaxPool | MaxPool, inputs: Inputs) -> State:
        return {"y": nn.functional.max_pool2d(inputs["x"], node.kernel, node.stride, node.padding)}

    def _integrate(self, node: FixedIntegrate, inputs: Inputs) -> State:
        x = inputs["x"]
        if node.mode == "max":
            return {"y": x.amax(0)}
        if node.mode != "learned":
            return {"y": x.sum(0)}
        # Float64, because the sum may reach 2^31 before it is shifted.
        weights = torch.from_numpy(self.graph.tensor(node, "weights").astype(np.float64))
        return {"y": _floor(torch.tensordot(weights, x.double(), dims=1), node.shift).float()}

    def _tokens(self, node: Tokens, inputs: Inputs) -> State:
        return {"y": inputs["x"].flatten(2).transpose(1, 2)}

    def _map(self, node: Map, inputs: Inputs) -> State:
        return {"y": inputs["x"].transpose(1, 2).unflatten(2, (node.height, node.width))}

    def _slice(self, node: Slice, inputs: Inputs) -> State:
        x = inputs["x"]
        return {"y": x.narrow(1 if x.ndim == 4 else -1, node.start, node.stop - node.start)}

    def _token_mean(self, node: FixedTokenMean, inputs: Inputs) -> State:
        return {"y": inputs["x"].sum(1, keepdim=True)}

    def _add(self, node: FixedAdd, inputs: Inputs) -> State:
        return {"y": node.a_weight * inputs["a"] + node.b_weight * inputs["b"]}

    def _attention(self, node: FixedSpikeMatMul, inputs: Inputs) -> State:
        q, k, v = (inputs[port].unflatten(-1, (node.heads, -1)).transpose(1, 2) for port in "qkv")
        y = (q @ (k.transpose(2, 3) @ v)).transpose(1, 2).flatten(2)
        return {"y": y * 2 ** (ALIGN + node.exponent)}

    def _columns(self, node: FixedMaskedColumnSum, inputs: Inputs) -> State:
        return {"y": (inputs["k"] * inputs["v"]).sum(1) * 2 ** (ALIGN + node.exponent)}

    def _head_sum(self, node: FixedHeadSum, inputs: Inputs) -> State:
        return {"y": inputs["x"].unflatten(-1, (node.heads, -1)).sum(-1) * 2 ** (ALIGN + node.exponent)}

    def _gate(self, node: Gate, inputs: Inputs) -> State:
        x, mask = inputs["x"], inputs["mask"]
        if node.axis == "head":
            return {"y": x * mask.repeat_interleave(x.shape[-1] // mask.shape[-1], dim=-1)}
        return {"y": x * (mask[:, :, None] if node.axis == "token" else mask[:, None, :])}

    def _spike_and(self, node: SpikeAnd, inputs: Inputs) -> State:
        a, b = inputs["a"], inputs["b"]
        return {"y": a * (1 - b) if node.invert else a * b}

    def _score(self, node: FixedHaltingScore, inputs: Inputs) -> State:
        z = inputs["z"][:, :, 0]
        table = torch.from_numpy(self.graph.tensor(node, "table").astype(np.float32))
        index = ((z / 2**node.shift).floor() - node.low).clamp(0, node.entries - 1)
        # The gradient is the slope between the neighbouring entries of the table.
        right, left = (index + 1).clamp(max=node.entries - 1), (index - 1).clamp(min=0)
        rise = (table[right.long()] - table[left.long()]) / 2 / 2**node.shift
        return {"h": _straight(table[index.long()], (z * rise.detach()))}

    def _accumulate(self, node: FixedHaltAccumulate, inputs: Inputs) -> State:
        h = inputs["score"]
        alive, total = inputs.get("alive", torch.ones_like(h)), inputs.get("total", torch.zeros_like(h))
        self.masks.append(alive)
        return _POLICIES[node.mode](self, node, h, alive, total)

    def _rectangular(self, node: FixedHaltAccumulate, h: Tensor, alive: Tensor, total: Tensor) -> State:
        state = self.state.setdefault(node.name, {"column": torch.zeros_like(h)})
        state["column"] = state["column"] + alive * h
        total = total + state["column"]
        self.ponder = self.ponder + alive.mean()
        return {"alive": alive * (total < node.limit), "total": total, "p": alive * h}

    def _raster(self, node: FixedHaltAccumulate, h: Tensor, alive: Tensor, total: Tensor) -> State:
        forced = node.last_block and self.step == self.graph.time_steps - 1
        return self._summed_up(node, h, alive, total, forced=forced)

    def _block(self, node: FixedHaltAccumulate, h: Tensor, alive: Tensor, total: Tensor) -> State:
        return self._summed_up(node, h, alive, total, forced=node.last_block)

    def _summed_up(
        self, node: FixedHaltAccumulate, h: Tensor, alive: Tensor, total: Tensor, *, forced: bool
    ) -> State:
        """Halt where the sum of scores reaches the limit, or everywhere."""
        one = 1 << node.score_bits
        halts = torch.ones_like(h) if forced else (total + h >= node.limit).to(h)
        rest = alive * halts * (one - total)
        self.ponder = self.ponder + (alive + rest / one).mean()
        return {
            "alive": alive * (1 - halts),
            "total": total + alive * h,
            "p": alive * (1 - halts) * h + rest,
        }

    def _readout(self, node: FixedReadout, inputs: Inputs) -> State:
        ports = [l for l in range(node.blocks) if f"z{l}" in inputs]
        values = {l: _floor(inputs[f"z{l}"], node.z_shift).clamp(-node.z_limit, node.z_limit) for l in ports}
        like = values[ports[-1]]
        ones = torch.ones_like(like[:, :, :1])
        zeros = torch.zeros_like(like)
        start = {"sum": zeros, "last": zeros, "weight": torch.zeros_like(ones)}
        state = self.state.setdefault(node.name, start)
        entered = torch.zeros_like(ones)
        for l in ports:
            z = values[l]
            if node.mode == "mean-field":
                p = inputs[f"p{l}"][:, :, None] if f"p{l}" in inputs else ones
                state["sum"], state["weight"] = state["sum"] + p * z, state["weight"] + p
                continue
            visited = inputs[f"alive{l}"][:, :, None] if f"alive{l}" in inputs else ones
            state["last"] = torch.where(visited > 0, z, state["last"])
            entered = torch.maximum(entered, visited)
        if node.mode == "rate":
            state["sum"], state["weight"] = state["sum"] + entered * state["last"], state["weight"] + entered
        if self.step < self.graph.time_steps - 1:
            return {}
        tokens = state["last"] if node.mode == "last-state" else state["sum"]
        if node.divides:
            # Float64, because a dividend may reach 2^31.
            exact = tokens.double() * 2**node.divide_bits / state["weight"].clamp(min=1).double()
            tokens = _straight(exact.trunc(), exact)
        y = tokens.double().sum(1)
        return {"y": _floor(y, node.y_shift).float()}

    def _logits(self, node: FixedOutput, inputs: Inputs) -> State:
        return {"x": inputs["x"] * node.unit}


_POLICIES: Mapping[str, Callable[[_Pass, FixedHaltAccumulate, Tensor, Tensor, Tensor], State]] = per_policy(
    "decisions in training with integers",
    {
        "raster": _Pass._raster,
        "time": _Pass._raster,
        "block": _Pass._block,
        "rectangular": _Pass._rectangular,
    },
    without=("image",),  # which needs no training: `program_of` refuses it
)
_OPERATORS: Mapping[type[Node], Callable[[Any, Any, Inputs], State]] = per_op(
    "operators of training with integers",
    {
        FixedInput: _Pass._frame,
        FixedConv2d: _Pass._synapses,
        FixedLinear: _Pass._synapses,
        FixedLIF: _Pass._lif,
        FixedSynapticCurrent: _Pass._current,
        SpikeMaxPool: _Pass._pool,
        MaxPool: _Pass._pool,
        FixedIntegrate: _Pass._integrate,
        Tokens: _Pass._tokens,
        Map: _Pass._map,
        Slice: _Pass._slice,
        FixedTokenMean: _Pass._token_mean,
        FixedAdd: _Pass._add,
        FixedSpikeMatMul: _Pass._attention,
        FixedMaskedColumnSum: _Pass._columns,
        FixedHeadSum: _Pass._head_sum,
        Gate: _Pass._gate,
        SpikeAnd: _Pass._spike_and,
        FixedHaltingScore: _Pass._score,
        FixedHaltAccumulate: _Pass._accumulate,
        FixedReadout: _Pass._readout,
        FixedOutput: _Pass._logits,
    },
    of=QUANTISED,
    without=(
        FixedImageScore,  # as the policy image
        FixedLateHaltAccumulate,  # decisions are delayed after training
    ),
)
