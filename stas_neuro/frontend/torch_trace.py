"""Run a torch model and record the same as every other backend: spikes, visits and activity.

Hooks record the input of each computing layer. Events are counted from these records, so the counts reflect
what torch computed, not what the graph would compute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stas_neuro import ir
from stas_neuro.activity import ActivityBuilder
from stas_neuro.activity.layers import builder_for
from stas_neuro.analysis import works_in
from stas_neuro.errors import InputError
from stas_neuro.frontend.torch_model import lower
from stas_neuro.ir import Graph, Node
from stas_neuro.models.block import MASK_LIF, Block, Packing, Visit
from stas_neuro.models.lif import LIF
from stas_neuro.models.stas import StasModel
from stas_neuro.scopes import block_of
from stas_neuro.trace import Trace

Counts = NDArray[np.int64]


def trace(
    model: StasModel,
    images: NDArray[np.floating[Any]],
    *,
    skip: bool = False,
    record_spikes: bool = True,
    chunk: int = 32,
) -> Trace:
    """Classify preprocessed images with torch, in the model's dtype.

    Parameters
    ----------
    model
        Must be in evaluation mode: training mode would change its statistics.
    images
        (B, C, H, W), or (B, T, C, H, W) for event input.
    skip
        Compute live tokens only, instead of masking halted ones. The trace is the same.
    record_spikes
        Whether the trace has the spikes of every LIF.
    chunk
        Number of images computed at a time, which limits the memory needed.

    Raises
    ------
    InputError
        If the model is in training mode, or cannot be lowered.
    """
    if model.training:
        raise InputError("the model is in training mode", "call model.eval()")
    graph = lower(model)
    dtype = model.head.weight.dtype
    traces = []
    for start in range(0, len(images), chunk):
        x = torch.from_numpy(np.ascontiguousarray(images[start : start + chunk])).to(dtype)
        traces.append(_Recorder(model, graph, len(x)).run(x, skip, record_spikes))
    return Trace.concatenate(traces)


class _Recorder:
    """Records of one batch, dense (B, S, ...) for each call; S is the number of steps in the call."""

    def __init__(self, model: StasModel, graph: Graph, batch: int) -> None:
        self.model, self.graph, self.batch = model, graph, batch
        self.inputs: dict[str, list[Tensor]] = {}
        self.spikes: dict[str, list[Tensor]] = {}
        self.packing: Packing | None = None

    def run(self, images: Tensor, skip: bool, record_spikes: bool) -> Trace:
        handles = []
        for name, module in self.model.named_modules():
            if isinstance(module, Block):
                handles.append(module.register_forward_pre_hook(self._enter_block))
                if self.graph.of_type(ir.ImageScore):
                    handles.append(module.register_forward_hook(self._leave_block(name)))
            elif isinstance(module, LIF | nn.Conv2d | nn.Linear):
                handles.append(module.register_forward_hook(self._note(name)))
        try:
            with torch.inference_mode():
                output = self.model(images, skip=skip)
        finally:
            for handle in handles:
                handle.remove()
        visits = output.visits.numpy()
        inputs = {name: torch.cat(parts, 1) for name, parts in self.inputs.items()}
        spikes = {name: torch.cat(parts, 1) for name, parts in self.spikes.items()}
        builder = builder_for(self.graph, self.batch)
        _Counter(self.graph, builder, inputs, spikes, output.visits).count()
        return Trace(
            logits=output.logits.numpy(),
            visits=visits,
            counted=builder.build(visits),
            spikes={name: s.to(torch.uint8).numpy() for name, s in spikes.items()} if record_spikes else {},
        )

    def _enter_block(self, module: nn.Module, args: tuple[Tensor, Visit]) -> None:
        self.packing = args[1].packing

    def _leave_block(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, Visit], out: Tensor) -> None:
            self.inputs.setdefault(name, []).append(self._dense(name, module, out))

        return hook

    def _note(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...], out: Any) -> None:
            self.inputs.setdefault(name, []).append(self._dense(name, module, args[0]))
            if isinstance(module, LIF):
                self.spikes.setdefault(name, []).append(self._dense(name, module, out[0]))

        return hook

    def _dense(self, name: str, module: nn.Module, x: Tensor) -> Tensor:
        if isinstance(module, nn.Conv2d):  # (S*B, C, H, W)
            maps: Tensor = x.unflatten(0, (-1, self.batch))
            return maps.transpose(0, 1)
        if name == "head":  # (B, D)
            return x.unsqueeze(1)
        if name.endswith(MASK_LIF):  # (S, B, 1, D)
            return x.squeeze(2).transpose(0, 1)
        if x.ndim == 3:  # (1, M, C): rows of live tokens
            assert self.packing is not None
            live = self.packing.live
            grid = x.new_zeros(live.numel(), x.shape[-1])
            grid[self.packing.rows] = x[0]
            return grid.reshape(live.shape[0], 1, live.shape[1], x.shape[-1])
        return x.transpose(0, 1)


class _Counter:
    """Counts events from the records, by the definitions in docs/activity.md."""

    def __init__(
        self,
        graph: Graph,
        builder: ActivityBuilder,
        inputs: dict[str, Tensor],
        spikes: dict[str, Tensor],
        visits: Tensor,
    ) -> None:
        self.graph, self.builder = graph, builder
        self.inputs, self.spikes, self.visits = inputs, spikes, visits

    def count(self) -> None:
        for node in self.graph.nodes:
            if node.traits.counts_events:
                _COUNTERS[ir.op_of(node)](self, node)

    def _conv2d(self, node: ir.Conv2d) -> None:
        x = self.inputs[node.name]
        ones = x.new_ones(1, 1, *node.sides.kernel)
        # The fan-out of an input is the number of windows that contain it: fewer at a border.
        window: dict[str, Any] = {"stride": node.stride, "padding": node.padding, "dilation": node.dilation}
        met = nn.functional.conv2d(torch.ones_like(x[:1, 0, :1]), ones, **window)
        fan_out = nn.functional.conv_transpose2d(
            torch.ones_like(met),
            ones,
            output_padding=_lost(x.shape[-2:], node),
            **window,
        )
        self._synaptic(node, x, fan_out * (node.out_channels // node.groups))

    def _linear(self, node: ir.Linear) -> None:
        self._synaptic(node, self.inputs[node.name], torch.tensor(float(node.out_features)))

    def _columns(self, node: ir.MaskedColumnSum) -> None:
        both = self._sent(node, "k") * self._sent(node, "v")
        self._add(node, synops=_total(both), synops_unary=_total(both))

    def _spike_gate(self, node: ir.Gate) -> None:
        sent = _total(self._sent(node, "x"))
        self._add(node, synops=sent, synops_unary=sent)

    def _scores(self, node: ir.HaltingScore | ir.ImageScore) -> None:
        block = int(node.name.split(".")[1])
        self._add(node, score_lookups=self.visits[:, :, block].sum(-1).numpy())

    def _image_scores(self, node: ir.ImageScore) -> None:
        self._scores(node)
        z = self.inputs[f"blocks.{node.name.split('.')[1]}"]
        visited = self.visits[:, :, -1].unsqueeze(-1)
        driven, unary = (_total(x * visited * node.classes) for x in ((z != 0), z))
        if self.graph.source_type(self.graph.inputs(node)["z"]).kind == ir.Kind.CURRENT:
            self._add(node, macs=driven)
        else:
            self._add(node, synops=driven, synops_unary=unary)

    def _accumulate(self, node: ir.HaltAccumulate) -> None:
        """Count nothing: there is one accumulation per score, which is counted."""

    def _readout(self, node: ir.Readout) -> None:
        blocks = [int(port[1:]) for port in self.graph.inputs(node) if port.startswith("p")]
        if blocks:
            weighted = self.visits[:, :, blocks].sum((2, 3)).numpy()
            self._add(node, readout_macs=weighted * self.graph.types[node.name, "y"].shape[0])

    def _synaptic(self, node: Node, x: Tensor, fan_out: Tensor) -> None:
        kind = self.graph.source_type(self.graph.inputs(node)["x"]).kind
        events = _total((x != 0) * fan_out)
        if kind == ir.Kind.CURRENT:
            self._add(node, macs=events)
        else:
            self._add(node, synops=events, synops_unary=_total(x * fan_out))

    def _neurons(self, node: ir.LIF) -> None:
        x, s = self.inputs[node.name], self.spikes[node.name]
        live = torch.ones_like(x, dtype=torch.bool)
        if "alive" in self.graph.inputs(node):
            block = block_of(node.scope)
            assert block is not None  # only neurons of blocks hear of halting
            live = live & self.visits[:, :, block].unsqueeze(-1)
        active = _total(((x != 0) | (s != 0)) & live)
        self._add(
            node,
            updates_active=active,
            updates_inactive=_total(live) - active,
            updates_gated=_total(~live),
            spikes_out=_total(s),
        )

    def _products(self, node: ir.SpikeMatMul) -> None:
        q, k, v = (self._sent(node, port).unflatten(-1, (node.heads, -1)) for port in ("q", "k", "v"))
        if node.form == "Q(K^TV)":
            synops = _total(k.sum(-1) * v.sum(-1)) + _total(q) * q.shape[-1]
            self._add(node, synops=synops, synops_unary=synops)
            return
        scores = torch.einsum("bsihd,bsjhd->bshij", q, k)
        values = v.sum(-1).transpose(2, 3).unsqueeze(3)
        pairs = _total(scores)
        self._add(
            node,
            synops=pairs + _total((scores != 0) * values),
            synops_unary=pairs + _total(scores * values),
        )

    def _sent(self, node: Node, port: str) -> Tensor:
        return self.spikes[self.graph.inputs(node)[port].src]

    def _add(self, node: Node, **counts: Counts) -> None:
        phase = works_in(self.graph, node)
        for kind, by_step in counts.items():  # (B, S)
            if phase in (ir.Phase.ONCE, ir.Phase.END):
                self.builder.add(kind, node.name, str(phase), by_step[:, 0])
                continue
            # A layer that torch computes once for neurons of every step has the same events in each step.
            for step in range(self.graph.time_steps):
                self.builder.add(
                    kind, node.name, f"{phase}{step + 1}", by_step[:, min(step, by_step.shape[1] - 1)]
                )


_COUNTERS: Mapping[type[Node], Callable[[_Counter, Any], None]] = ir.per_op(
    "counts of events of torch",
    {
        ir.Conv2d: _Counter._conv2d,
        ir.Linear: _Counter._linear,
        ir.LIF: _Counter._neurons,
        ir.SpikeMatMul: _Counter._products,
        ir.MaskedColumnSum: _Counter._columns,
        ir.Gate: _Counter._spike_gate,
        ir.HaltingScore: _Counter._scores,
        ir.HaltAccumulate: _Counter._accumulate,
        ir.ImageScore: _Counter._image_scores,
        ir.Readout: _Counter._readout,
    },
    of=[op for op in ir.OPERATIONS if op.TRAITS.counts_events or op is ir.Gate],
    # What torch computes is never late, and its models have no gates of heads or of single spikes.
    without=(ir.LateHaltAccumulate, ir.HeadSum, ir.SpikeAnd),
)


def _total(x: Tensor) -> Counts:
    """Sum (B, S, ...) to int64 (B, S); float64 represents the sums exactly."""
    total: Counts = x.double().flatten(2).sum(2).round().to(torch.int64).numpy()
    return total


def _lost(size: ir.Shape, node: ir.Conv2d) -> ir.Shape:
    """Return the number of rows and columns at the far border that no window reaches."""
    return tuple(
        (length + 2 * padding - extent) % stride
        for length, extent, stride, padding in zip(
            size, node.sides.extent, node.sides.stride, node.sides.padding, strict=True
        )
    )
