"""Measures a chain of linear operations: the convolutions that it is the sum of.

What a chain computes is not derived from its operations: its kernels are the gradients of single outputs,
which are exact as it is linear. A second run on random inputs must agree with the convolutions everywhere,
at the border too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd, prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from stas_neuro.importers.axes import Dims, Piece, shape_of
from stas_neuro.importers.errors import Refused
from stas_neuro.importers.region import Region
from stas_neuro.importers.values import Chain, Value
from stas_neuro.importers.windows import Fit, fit_windows, views

TOLERANCE = 1e-9
"""Largest difference between a chain and its layers relative to the largest value, or 1."""
_MOST_WINDOWS = 64
"""Windows tried for a layer."""
_ROUNDING = 1e-12
"""Largest relative difference of numbers that are the same but for rounding."""


@dataclass(frozen=True)
class Layer:
    """A measured convolution of one base: its kernel (Cout, Cin / groups, rows, columns) and window."""

    base: Value
    weight: Tensor
    rows: Fit
    columns: Fit
    groups: int
    dilation: tuple[int, int]

    @property
    def window(self) -> dict[str, Any]:
        """Its window, by rows and columns."""
        return {
            "kernel": tuple(self.weight.shape[2:]),
            "stride": (self.rows.stride, self.columns.stride),
            "padding": (self.rows.padding, self.columns.padding),
            "dilation": self.dilation,
        }

    @property
    def is_point(self) -> bool:
        """Whether it multiplies each position by a matrix."""
        return self.rows == self.columns == Fit(1, 1, 0) and self.groups == 1


@dataclass(frozen=True)
class Measured:
    """The layers of a chain, one for each base, and the sum of all biases, (Cout,) or (Cout, H, W)."""

    layers: Sequence[Layer]
    bias: Tensor


@dataclass(frozen=True)
class _Probe:
    """A chain that can be run, on (B, C, H, W) for each base, and the layout of its result."""

    region: Region
    chain: Chain
    images: int

    def inputs(self, fill: Callable[[tuple[int, ...]], Tensor]) -> list[Tensor]:
        """Make an input for each base."""
        return [fill((self.images, *(base.sizes[kind] for kind in "CHW"))) for base in self.region.read]

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the result (T, B, C, H, W)."""
        by_source = {base.source: x for base, x in zip(self.region.read, inputs, strict=True)}
        values = {
            node: _laid(by_source[base.source], base.dims).clone() for node, base in self.region.bases.items()
        }
        return _canonical(self.region.run(values), self.chain.made_dims, self.chain.sizes)


def measure(region: Region, chain: Chain) -> Measured:
    """Measure the kernels and the bias of a chain, and compare them with it on random inputs.

    Raises
    ------
    Refused
        If it is not a sum of convolutions.
    """
    images = _images(chain.made_dims)
    probe = _Probe(region, chain, images)
    inputs = probe.inputs(lambda shape: torch.zeros(shape, dtype=torch.float64, requires_grad=True))
    with torch.enable_grad():
        at_zero = probe.run(inputs)
    constant = at_zero.detach()
    if (constant - constant[:1, :1]).abs().max() > _ROUNDING * constant.abs().max():
        raise Refused(f"adds a constant that differs between steps, in {region}", "add one of all steps")
    layers = []
    for base, x in zip(region.read, inputs, strict=True):

        def rows(chosen: Tensor, x: Tensor = x) -> Tensor:
            full = torch.zeros_like(at_zero)
            full[0] = chosen
            (gradient,) = torch.autograd.grad(at_zero, x, full, retain_graph=True, materialize_grads=True)
            return gradient

        shape = (images, *at_zero.shape[2:])
        layers.append(_layer(base, rows, shape, region))
    measured = Measured(layers, _bias(constant[0, 0]))
    _compare(probe, measured)
    return measured


def _images(dims: Dims) -> int:
    return prod(piece.size for dim in dims for piece in dim if piece.kind == "B")


def _bias(constant: Tensor) -> Tensor:
    """Return one bias for each channel if all positions have the same."""
    center = constant[:, constant.shape[1] // 2, constant.shape[2] // 2]
    same = (constant - center[:, None, None]).abs().max() <= _ROUNDING * constant.abs().max()
    return center.clone() if same else constant


def _compare(probe: _Probe, measured: Measured) -> None:
    """Compare layers with the chain on random inputs."""
    generator = torch.Generator().manual_seed(0)
    inputs = probe.inputs(lambda shape: torch.randn(shape, dtype=torch.float64, generator=generator))
    with torch.no_grad():
        wanted = probe.run(inputs)
        bias = measured.bias.reshape(*measured.bias.shape, *[1] * (3 - measured.bias.ndim))
        ours = bias + sum(map(_convolve, measured.layers, inputs))
    worst = float((wanted - ours).abs().max())
    if not worst <= TOLERANCE * max(1.0, float(wanted.abs().max())):
        what = (
            f"{probe.region} is no convolution: at a border or elsewhere it differs from one by {worst:.3g}"
        )
        raise Refused(what, "place a neuron between its layers, or pad in the first one only")


def _convolve(layer: Layer, x: Tensor) -> Tensor:
    window = layer.window
    kernel = {name: window[name] for name in ("stride", "padding", "dilation")}
    return conv2d(x, layer.weight, groups=layer.groups, **kernel)


Rows = Callable[[Tensor], Tensor]
"""From weights of outputs (B, C', H', W') to those of inputs (B, C, H, W), image by image."""


def _layer(base: Value, rows: Rows, shape: tuple[int, ...], region: Region) -> Layer:
    """Measure the kernel of a base, with the window that agrees where several may be."""
    pairs = product(*(_fits(rows, shape, along) for along in (0, 1)))
    fits = sorted(pairs, key=lambda pair: pair[0].kernel * pair[1].kernel)[:_MOST_WINDOWS]
    if not fits:
        height, width, count = base.sizes["H"], base.sizes["W"], " x ".join(map(str, shape[2:]))
        what = f"{region} is no convolution: no window over {height} x {width} gives {count} results"
        raise Refused(what, "place a neuron between its layers")
    layers = (_measured(base, rows, shape, down, across) for down, across in fits)
    first = next(layers)
    if len(fits) == 1 or _agrees(first, rows, shape):
        return first
    return next((layer for layer in layers if _agrees(layer, rows, shape)), first)


def _agrees(layer: Layer, rows: Rows, shape: tuple[int, ...]) -> bool:
    """Tell whether a layer gives the gradients of a chain, for random weights of its outputs."""
    chosen = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    wanted = rows(chosen)
    x = torch.zeros_like(wanted, requires_grad=True)
    with torch.enable_grad():
        (ours,) = torch.autograd.grad(_convolve(layer, x), x, chosen)
    return bool((wanted - ours).abs().max() <= TOLERANCE * max(1.0, float(wanted.abs().max())))


def _measured(base: Value, rows: Rows, shape: tuple[int, ...], down: Fit, across: Fit) -> Layer:
    """Measure the kernel of a base in a window."""
    size = {kind: base.sizes[kind] for kind in "CHW"}
    weight = torch.zeros(shape[1], size["C"], down.kernel, across.kernel, dtype=torch.float64)
    for vertical, horizontal in product(views(down, size["H"], shape[2]), views(across, size["W"], shape[3])):
        places = list(product(range(shape[0]), vertical, horizontal))
        for start in range(0, shape[1], len(places)):
            channels = range(start, min(start + len(places), shape[1]))
            chosen = torch.zeros(shape, dtype=torch.float64)
            for channel, (image, row, column) in zip(channels, places, strict=False):
                chosen[image, channel, row, column] = 1
            margin = (across.padding, across.kernel, down.padding, down.kernel)
            gradient = pad(rows(chosen), margin)
            for channel, (image, row, column) in zip(channels, places, strict=False):
                top, left = row * down.stride, column * across.stride
                window = gradient[image, :, top : top + down.kernel, left : left + across.kernel]
                weight[channel] = torch.where(window != 0, window, weight[channel])
    weight, groups = _grouped(weight)
    taps = (weight != 0).flatten(0, 1).any(0)
    dilation = _apart(taps.any(1)), _apart(taps.any(0))
    return Layer(base, weight[:, :, :: dilation[0], :: dilation[1]], down, across, groups, dilation)


def _apart(used: Tensor) -> int:
    """Return how far the taps along an axis are apart: only zeros are between them."""
    last = len(used) - 1
    return gcd(last, *used.nonzero().flatten().tolist()) or 1


def _fits(rows: Rows, shape: tuple[int, ...], along: int) -> list[Fit]:
    """Find the windows along an axis (0: H, 1: W) from the inputs that the outputs along it depend on."""
    generator = torch.Generator().manual_seed(1)
    count, middle = shape[2 + along], shape[3 - along] // 2
    reached = []
    for start in range(0, count, shape[0]):
        places = range(start, min(start + shape[0], count))
        chosen = torch.zeros(shape, dtype=torch.float64)
        for image, place in enumerate(places):
            channels = chosen[image, :, place, middle] if along == 0 else chosen[image, :, middle, place]
            channels.copy_(torch.randn(shape[1], dtype=torch.float64, generator=generator))
        depends = (rows(chosen) != 0).any(dim=1).any(dim=2 - along)
        reached.append(depends[: len(places)].numpy())
    return fit_windows(np.concatenate(reached))


def _grouped(weight: Tensor) -> tuple[Tensor, int]:
    """Return a kernel without the blocks of zeros that groups of channels leave out, and the groups."""
    outputs, inputs = weight.shape[:2]
    used = (weight != 0).flatten(2).any(2)
    for groups in range(gcd(outputs, inputs), 1, -1):
        if outputs % groups or inputs % groups:
            continue
        blocks = used.reshape(groups, outputs // groups, groups, inputs // groups).any(3).any(1)
        if not (blocks & ~torch.eye(groups, dtype=torch.bool)).any():
            parts = weight.reshape(groups, outputs // groups, groups, inputs // groups, *weight.shape[2:])
            own = torch.stack([parts[group, :, group] for group in range(groups)])
            return own.flatten(0, 1), groups
    return weight, 1


# Layouts ----------------------------------------------------------------------------------------------------


def _order(dims: Dims) -> tuple[list[Piece], list[int]]:
    """Return the pieces of a layout, and their order in (T, B, C, H, W)."""
    pieces = [piece for dim in dims for piece in dim]
    key = [("TBCHW".index(piece.kind), -piece.stride) for piece in pieces]
    return pieces, sorted(range(len(pieces)), key=key.__getitem__)


def _laid(x: Tensor, dims: Dims) -> Tensor:
    """Lay (B, C, H, W) out, the same in each step."""
    pieces, order = _order(dims)
    steps = [piece.size for piece in pieces if piece.kind == "T"]
    rest = [pieces[index].size for index in order if pieces[index].kind != "T"]
    ordered = x.reshape(*[1] * len(steps), *rest).expand(*steps, *rest)
    return ordered.permute([order.index(index) for index in range(len(order))]).reshape(shape_of(dims))


def _canonical(y: Tensor, dims: Dims, sizes: Mapping[str, int]) -> Tensor:
    """Return a layout as (T, B, C, H, W)."""
    pieces, order = _order(dims)
    ordered = y.reshape([piece.size for piece in pieces]).permute(order)
    images = prod(piece.size for piece in pieces if piece.kind == "B")
    return ordered.reshape(-1, images, *(sizes[kind] for kind in "CHW"))
