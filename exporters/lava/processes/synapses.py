"""Synapses: linear layers and convolutions, with the events that they take in."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..lava_api import CPU, LoihiProtocol, implements, requires, tag
from ..network import Array
from .base import EVENT_KINDS, LayerModel, LayerProcess


class Linear(LayerProcess):
    """y = x W^T + alive * bias; x (N, D) or (D,), alive (N,) where it is wired."""


@implements(proc=Linear, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyLinearModel(LayerModel):
    """One matrix product a step; a dead token's row of y is zero."""

    EVENTS = ("synops", "synops_unary", "macs")

    def _setup(self) -> None:
        self.matrix = np.ascontiguousarray(self.tensors["weight"].T)
        self.bias = self.tensors.get("bias")

    def _compute(self, x: Array, alive: Array | None = None) -> Array:
        self.count_inputs(x, self.inlets["x"].kind, self.matrix.shape[1])
        y: Array = x @ self.matrix
        if self.bias is not None:
            y += self.bias if alive is None else np.multiply.outer(alive, self.bias)
        return y


class Conv2d(LayerProcess):
    """Cross-correlation with zero padding: x (Cin, H, W) to y (Cout, H', W')."""


@implements(proc=Conv2d, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyConv2dModel(LayerModel):
    """All windows of the padded map as columns, then one matrix product."""

    EVENTS = ("synops", "synops_unary", "macs")

    def _setup(self) -> None:
        weight = self.tensors["weight"]
        out_channels, in_channels, kernel, _ = weight.shape
        stride, padding = self.params["stride"], self.params["padding"]
        _, height, width = self.inlets["x"].shape
        self.matrix = weight.reshape(out_channels, -1)
        self.bias = self.tensors["bias"][:, None] if "bias" in self.tensors else None
        padded = np.zeros((in_channels, height + 2 * padding, width + 2 * padding), self.dtype)
        self.interior = padded[:, padding : padding + height, padding : padding + width]
        windows = sliding_window_view(padded, (kernel, kernel), (1, 2))[:, ::stride, ::stride]  # type: ignore[call-overload]
        self.windows = windows.transpose(0, 3, 4, 1, 2)  # (Cin, k, k, H', W'), a view of the padded map
        self.columns = np.empty(self.windows.shape, self.dtype)
        reach = np.outer(*(_outputs_reached(n, kernel, stride, padding) for n in (height, width)))
        self.fan_out = reach * out_channels  # (H, W): synapses that one input drives
        self.input_kind = self.inlets["x"].kind

    def _compute(self, x: Array) -> Array:
        events = np.count_nonzero(x, axis=0)
        if self.input_kind in EVENT_KINDS:
            self.count("synops", np.vdot(events, self.fan_out))
            unary = events if self.input_kind == "spike" else x.sum(axis=0).astype(np.int64)
            self.count("synops_unary", np.vdot(unary, self.fan_out))
        else:
            self.count("macs", np.vdot(events, self.fan_out))
        self.interior[...] = x
        self.columns[...] = self.windows
        y: Array = self.matrix @ self.columns.reshape(self.matrix.shape[1], -1)
        if self.bias is not None:
            y += self.bias
        return y.reshape(self.outlets["y"])


def _outputs_reached(size: int, kernel: int, stride: int, padding: int) -> Array:
    """How many output places along one axis each of `size` inputs reaches."""
    reached = np.zeros(size + 2 * padding, np.int64)
    for start in range(0, size + 2 * padding - kernel + 1, stride):
        reached[start : start + kernel] += 1
    return reached[padding : padding + size]
