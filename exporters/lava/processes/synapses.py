"""Synapses: linear layers and convolutions, with the events that they take in."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stas_neuro.exporters.lava.lava_api import CPU, LoihiProtocol, implements, requires, tag
from stas_neuro.exporters.lava.processes.base import NodeModel, NodeProcess
from stas_neuro.exporters.lava.processes.integers import SIGN, current, product, sent, shifted
from stas_neuro.ir import Array, Shape
from stas_neuro.ir.ops.windows import Sides


class Linear(NodeProcess):
    """y = x W^T + alive * bias; x (N, D) or (D,), alive (N,) where it is wired.

    Fixed: y = (shift(x W^T, weight_exp) << 6) + alive * (bias << bias_exp), of x as it is sent (`x_shift`).
    """


class LinearModel(NodeModel):
    """One matrix product a step; a dead token's row of y is zero.

    In integers it leaves out the tokens whose cores all stand still. In floats it does not: which rows a
    product has may change the order of its sums.
    """

    EVENTS = ("synops", "synops_unary", "macs")

    def _setup(self) -> None:
        self.matrix = np.ascontiguousarray(self.tensors["weight"].T)
        self.bias = self.tensors.get("bias")
        (tokens,) = self.inlets["x"].shape[:-1] or (1,)
        of_token = np.arange(tokens).reshape(-1, *(1 for _ in self.inlets["x"].shape[1:]))
        self.fan_out = self.place.held(
            of_token, tokens
        )  # (pieces, N): synapses that an input of a token drives

    def _compute(self, x: Array, alive: Array | None = None) -> Array:
        self._count(x)
        y = self._synaptic_input(x, alive)
        if self.bias is not None:
            y += self.bias if alive is None else np.multiply.outer(alive, self.bias)
        return y

    def _synaptic_input(self, x: Array, alive: Array | None) -> Array:
        """The product of all tokens, or at least of those on cores that are stepped."""
        raise NotImplementedError

    def _count(self, x: Array) -> None:
        kind = self.inlets["x"].kind
        if not self.place.axes:  # all tokens drive the same
            events, fan_out = np.count_nonzero(x), self.matrix.shape[1]
            values = x.sum(dtype=np.float64) if kind == "graded" else events
            self.count_synapses(kind, events * fan_out, values * fan_out)
            return
        rows = x.reshape(self.fan_out.shape[1], -1)
        driven, unary = np.count_nonzero(rows, axis=1), rows.sum(axis=1, dtype=np.float64)
        self.count_synapses(kind, self.fan_out @ driven, self.fan_out @ unary)


@implements(proc=Linear, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyLinearModelFloat(LinearModel):
    """BLAS multiplies."""

    def _synaptic_input(self, x: Array, alive: Array | None) -> Array:
        y: Array = x @ self.matrix
        return y


@implements(proc=Linear, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyLinearModelFixed(LinearModel):
    """As Lava's Dense before a LIF, with signed weights: what `weight_bits` cannot hold is cut off."""

    def _setup(self) -> None:
        super()._setup()
        unused = 9 - self.node.weight_bits
        self.matrix = (self.matrix.clip(-256, 255) >> unused) << unused
        self.exponents = self.tensors["weight_exp"]
        self.bias = self.tensors["bias"] << self.node.bias_exp

    def _synaptic_input(self, x: Array, alive: Array | None) -> Array:
        awake = None if alive is None else self.place.awake_rows(alive)
        if awake is not None:
            y = np.zeros((len(x), self.matrix.shape[1]), self.dtype)
            y[awake] = self._synaptic_input(x[awake], None)
            return y
        return current(shifted(product(sent(x, self.node.x_shift), self.matrix), self.exponents))


class Conv2d(NodeProcess):
    """Cross-correlation with zero padding: x (Cin, H, W) to y (Cout, H', W').

    Fixed: y = (shift(sums, weight_exp) << 6) + (bias << bias_exp), bias (Cout,) or (Cout, H', W'). `off_core`
    rounds y down to a multiple of 2^bias_exp, as a bias current. x is taken as it is sent (`x_shift`).
    """


class Conv2dModel(NodeModel):
    """All windows of the padded map as columns, then one matrix product for each group of channels."""

    EVENTS = ("synops", "synops_unary", "macs", "cpu_operations")

    def _setup(self) -> None:
        weight = self.tensors["weight"]
        groups, (_, stride, (above, left), dilation) = self.node.groups, self.node.sides
        in_channels, height, width = self.inlets["x"].shape
        self.matrix = weight.reshape(groups, len(weight) // groups, -1)
        padded = np.zeros((in_channels, height + 2 * above, width + 2 * left), self.dtype)
        self.interior = padded[:, above : above + height, left : left + width]
        windows = sliding_window_view(padded, self.node.sides.extent, (1, 2))  # type: ignore[call-overload]
        windows = windows[:, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
        self.windows = windows.transpose(0, 3, 4, 1, 2)  # (Cin, kh, kw, H', W'), a view of the padded map
        self.columns = np.empty(self.windows.shape, self.dtype)
        channels, *places = self.outlets["y"]
        group = np.arange(channels).reshape(-1, 1, 1) // (channels // groups)
        size = int(np.prod(places))
        held = self.place.held(group * size + np.arange(size).reshape(places), groups * size)
        reach = _reached(held.reshape(-1, groups, *places), (height, width), self.node.sides)
        # (pieces, groups * H * W): synapses that one input drives
        self.fan_out = reach.reshape(*self.place.axes, -1)
        self.by_group = groups, in_channels // groups, height, width
        self.input_kind = self.inlets["x"].kind

    def _compute(self, x: Array) -> Array:
        self._count(x)
        self.interior[...] = x
        self.columns[...] = self.windows
        columns = self.columns.reshape(len(self.matrix), self.matrix.shape[2], -1)
        return self._map(columns).reshape(self.outlets["y"])

    def _map(self, columns: Array) -> Array:
        """The output map as (groups, Cout / groups, places), from its windows as columns of each group."""
        raise NotImplementedError

    def _count(self, x: Array) -> None:
        driven = self._driven(x)
        graded = self.input_kind == "graded"
        unary = self.fan_out @ x.reshape(self.by_group).sum(axis=1, dtype=float).ravel() if graded else driven
        self.count_synapses(self.input_kind, driven, unary)

    def _driven(self, x: Array) -> Array:
        """Count the synapses, of each piece, that take an input which is not 0."""
        driven: Array = self.fan_out @ np.count_nonzero(x.reshape(self.by_group), axis=1).ravel()
        return driven


@implements(proc=Conv2d, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyConv2dModelFloat(Conv2dModel):
    """BLAS multiplies."""

    def _map(self, columns: Array) -> Array:
        y: Array = self.matrix @ columns
        if "bias" in self.tensors:
            y += self.tensors["bias"].reshape(*self.matrix.shape[:2], -1)
        return y


@implements(proc=Conv2d, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyConv2dModelFixed(Conv2dModel):
    """As Lava's Conv before a LIF, whose sums wrap at 24 bits, with the exponents that only its Dense has."""

    def _setup(self) -> None:
        super()._setup()
        by_feature = (*self.matrix.shape[:2], -1)
        self.exponents = self.tensors["weight_exp"].reshape(by_feature)
        self.bias_exp = self.node.bias_exp
        self.bias = self.tensors["bias"].reshape(by_feature) << self.bias_exp

    def _map(self, columns: Array) -> Array:
        columns = sent(columns, self.node.x_shift)
        sums = shifted(product(self.matrix, columns), self.exponents)
        y: Array = current(((sums + SIGN) & (2 * SIGN - 1)) - SIGN) + self.bias
        if self.node.off_core:
            y = (y >> self.bias_exp) << self.bias_exp
        return y

    def _count(self, x: Array) -> None:
        if self.node.off_core:
            self.count("cpu_operations", self._driven(x))
        else:
            super()._count(x)


def _reached(neurons: Array, size: Shape, sides: Sides) -> Array:
    """How many of `neurons` (..., H', W') at each output place an input at each of (..., H, W) reaches."""
    height, width = size
    rows, columns = neurons.shape[-2:]
    kernel, (down, along), (above, left), dilation = sides
    reached = np.zeros((*neurons.shape[:-2], height + 2 * above, width + 2 * left), np.int64)
    for row, column in np.ndindex(kernel):
        i, j = row * dilation[0], column * dilation[1]
        reached[..., i : i + down * rows : down, j : j + along * columns : along] += neurons
    return reached[..., above : above + height, left : left + width]
