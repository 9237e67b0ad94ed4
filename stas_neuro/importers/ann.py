"""Converts a network of ReLUs to integrate-and-fire neurons, whose rates of spikes are its activations.

A ReLU becomes neurons that are reset by subtraction: over T steps they fire clip(floor(T x / s + 1/2), 0, T)
times for a constant input x, which stands for that multiple of s / T. The scale s of a ReLU is chosen on a
sample, for the least square error of that rounding (Li et al., arXiv 2106.06984); the 1/2 is a bias of s / 2T
in each step (Deng and Gu, arXiv 2103.00476). A scale is no operation: it goes into the weights and thresholds
(Rueckauer et al., doi 10.3389/fnins.2017.00682), and activations that are added share one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from stas_neuro.choices import STEM_MODES, StemMode
from stas_neuro.errors import InputError
from stas_neuro.importers.ann_graph import divide, finish, replace, stem_of, traced
from stas_neuro.importers.ann_units import LAYERS, NORMS, PASSING, Units, called, is_relu
from stas_neuro.importers.errors import CannotImport
from stas_neuro.ir import Problems

CHUNK = 64
"""Images of the sample that are run at once."""
_KEPT = 1 << 16
"""Values of a ReLU that its scale is chosen on, at most."""
_SCALES = tuple(2 ** (-each / 6) for each in range(37))
"""Scales that are tried, as parts of the largest value."""


class IntegrateAndFire(nn.Module):
    """v = v + x; fires where v >= threshold, and subtracts it. Its input has all steps: (T, ...)."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def extra_repr(self) -> str:
        """Show the threshold."""
        return f"threshold={self.threshold:g}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes of all steps."""
        v, spikes = torch.zeros_like(x[0]), []
        for current in x:
            v = v + current
            fired = (v >= self.threshold).to(v)
            v = v - fired * self.threshold
            spikes.append(fired)
        return torch.stack(spikes)


class Rates(nn.Module):
    """Neurons in the place of a ReLU, among layers that take all steps as one batch, (T * B, ...)."""

    def __init__(self, threshold: float, time_steps: int) -> None:
        super().__init__()
        self.neuron, self.time_steps = IntegrateAndFire(threshold), time_steps

    def forward(self, x: Tensor) -> Tensor:
        """Return spikes of the same layout."""
        steps = x.unflatten(0, (self.time_steps, -1))
        spikes: Tensor = self.neuron(steps)
        return spikes.flatten(0, 1)


def convert(
    module: nn.Module,
    sample: Tensor,
    time_steps: int,
    *,
    stem: str = "",
    mode: StemMode = "one-step",
    percentile: float | None = None,
) -> fx.GraphModule:
    """Convert a network of ReLUs to one of spikes, whose logits are means over the steps.

    Parameters
    ----------
    module : nn.Module
        In evaluation mode; not changed. Its forward is traced with torch.fx.
    sample : Tensor
        Images (B, C, H, W), normalised as for the module, on which scales are chosen: some hundreds.
    time_steps : int
        T.
    stem : str, optional
        Path of the submodule that comes first, and runs before the others: once for each image.
    mode : "one-step" or "late-mean"
        What the others receive in every step: the spikes of the stem's first step, from rest; or the mean of
        its T steps, which is sent as a number.
    percentile : float, optional
        Scales are this percentile of each ReLU's values above 0, instead of those of the least error.

    Raises
    ------
    CannotImport
        If the network has operations that rates cannot compute: all of them, each with its place.
    InputError
        If an option does not fit the network.
    """
    if time_steps < 1:
        raise InputError(f"time_steps is {time_steps}", "use at least 1")
    if mode not in STEM_MODES:
        raise InputError(f"stem_mode is {mode!r}", f"use {' or '.join(STEM_MODES)}")
    if percentile is not None and not 0 < percentile <= 100:
        raise InputError(f"percentile is {percentile:g}", "use a number above 0, up to 100, such as 99.9")
    graph = traced(module)
    first = stem_of(graph, stem) if stem else ()
    samples = _Samples(graph)
    with torch.no_grad():
        for part in sample.split(CHUNK):
            samples.run(part)
    divide(graph, samples.tensors, first, mode, time_steps)
    problems = Problems()
    units = Units(graph, frozenset(samples.tensors), problems)
    if problems.found:
        raise CannotImport(*problems.found)
    single = first if mode == "one-step" else ()
    steps = {node: 1 if node in single else time_steps for node in samples.relus}
    joined: dict[fx.Node, list[tuple[Tensor, int]]] = {}
    for node, values in samples.relus.items():
        joined.setdefault(units.group(node), []).append((torch.cat(values), steps[node]))
    scales = {node: _scale(joined[units.group(node)], percentile) for node in samples.relus}
    unit = units.solve(scales, problems)
    if problems.found:
        raise CannotImport(*problems.found)
    _rescale(graph, units, unit)
    for node in steps:
        threshold = unit[node] / unit[node.all_input_nodes[0]]
        _shift(graph, node, threshold / (2 * steps[node]))
        replace(graph, node, Rates(threshold, steps[node]))
    return finish(graph, time_steps)


class _Samples(fx.Interpreter):
    """Runs a network and keeps values of its ReLUs."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.relus: dict[fx.Node, list[Tensor]] = {}
        self.tensors: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        """Run one call."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.tensors.add(n)
        if is_relu(self.module, n):  # type: ignore[arg-type]
            values = result.double().flatten()
            values = values[:: max(1, -(-values.numel() // (_KEPT // 4)))]
            kept = self.relus.setdefault(n, [])
            if sum(each.numel() for each in kept) < _KEPT:
                kept.append(values)
        return result


def _scale(given: Sequence[tuple[Tensor, int]], percentile: float | None) -> float:
    """Choose the scale that ReLUs share, by the values and the steps of each; 1 if all are always 0."""
    positive = [(values[values > 0], steps) for values, steps in given if (values > 0).any()]
    if not positive:
        return 1.0
    if percentile is not None:
        ranks = [max(1, round(len(values) * percentile / 100)) for values, _ in positive]
        return max(
            float(values.kthvalue(rank).values) for (values, _), rank in zip(positive, ranks, strict=True)
        )

    def error(scale: float) -> float:
        total = 0.0
        for values, steps in positive:
            rounded = (values * steps / scale + 0.5).floor().clamp(0, steps) * (scale / steps)
            total += float((rounded - values).square().sum())
        return total

    largest = max(float(values.max()) for values, _ in positive)
    return min((largest * part for part in _SCALES), key=error)


def _rescale(graph: fx.GraphModule, units: Units, unit: Mapping[fx.Node, float]) -> None:
    """Multiply weights by the unit of their inputs, divide them and biases by that of their outputs."""
    with torch.no_grad():
        for node in units.layers:
            layer: Any = graph.get_submodule(str(node.target))
            into, out = unit[node.all_input_nodes[0]], unit[node]
            layer.weight.mul_(into / out)
            if layer.bias is not None:
                layer.bias.div_(out)


def _shift(graph: fx.GraphModule, relu: fx.Node, amount: float) -> None:
    """Add a constant to what a neuron takes, in the bias of a layer before it that nothing else takes.

    Neurons behind something else, such as a product of spikes, get none: they round down.
    """
    node = relu.all_input_nodes[0]
    while len(node.users) == 1:
        layer: Any = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, LAYERS + NORMS):
            bias = layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias.detach()
            layer.bias = nn.Parameter(bias + amount)
            return
        taken = [each for each in node.all_input_nodes if len(each.users) == 1]
        if layer is not None or not taken or called(graph, node) not in PASSING:
            return
        node = taken[-1]
