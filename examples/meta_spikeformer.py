"""Meta-SpikeFormer, the network of Spike-driven Transformer V2 (M. Yao et al., ICLR 2024, arXiv 2404.03663).

Written after the paper, with neurons and layers of SpikingJelly, which the dependency group `zoo` has; it
shares no code with the authors' and reads no weights. Blocks add currents: neurons read the sum of all layers
since the last change of resolution. Tensors are (T, B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Parts:
    """Layers of SpikingJelly, which is imported only where a network is made."""

    def __init__(self, layer: Any, neuron: Any) -> None:
        self._layer, self._neuron = layer, neuron

    def conv(self, entering: int, leaving: int, kernel: int = 1, **options: int) -> nn.Module:
        """Return a convolution without a bias."""
        made: nn.Module = self._layer.Conv2d(entering, leaving, kernel, bias=False, **options)
        return made

    def normed(self, *layers: nn.Module, channels: int) -> nn.Sequential:
        """Return layers with a normalisation behind."""
        return nn.Sequential(*layers, self._layer.BatchNorm2d(channels))

    def spikes(self, threshold: float = 1.0) -> nn.Module:
        """Return neurons."""
        made: nn.Module = self._neuron.LIFNode(tau=2.0, v_threshold=threshold, detach_reset=True)
        return made

    def linear(self, entering: int, leaving: int) -> nn.Module:
        """Return a linear layer."""
        made: nn.Module = self._layer.Linear(entering, leaving)
        return made


class Separable(nn.Sequential):
    """Neurons, a 1x1 convolution to twice the channels, neurons, and a 7x7 convolution in two parts."""

    def __init__(self, parts: Parts, dim: int) -> None:
        depthwise = parts.conv(2 * dim, 2 * dim, 7, padding=3, groups=2 * dim)
        super().__init__(
            parts.spikes(),
            parts.normed(parts.conv(dim, 2 * dim), channels=2 * dim),
            parts.spikes(),
            parts.normed(depthwise, parts.conv(2 * dim, dim), channels=dim),
        )


class ConvBlock(nn.Module):
    """Block of an early stage: a separable convolution, then 3x3 convolutions to four times the channels."""

    def __init__(self, parts: Parts, dim: int) -> None:
        super().__init__()
        self.separable = Separable(parts, dim)
        self.channels = nn.Sequential(
            parts.spikes(),
            parts.normed(parts.conv(dim, 4 * dim, 3, padding=1), channels=4 * dim),
            parts.spikes(),
            parts.normed(parts.conv(4 * dim, dim, 3, padding=1), channels=dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add both to the currents."""
        x = self.separable(x) + x
        return self.channels(x) + x


class Reparametrised(nn.Module):
    """1x1, 3x3 in each channel, and 1x1 convolutions without neurons between: one of 3x3 when it runs."""

    def __init__(self, parts: Parts, dim: int) -> None:
        super().__init__()
        self.first = parts.normed(parts.conv(dim, dim), channels=dim)
        self.second = parts.normed(parts.conv(dim, dim, 3, groups=dim), parts.conv(dim, dim), channels=dim)

    def forward(self, x: Tensor) -> Tensor:
        """Pad the spikes, so that the border of the normalised image is what silence gives."""
        y: Tensor = self.second(self.first(functional.pad(x, (1, 1, 1, 1))))
        return y


class Attention(nn.Module):
    """Attention of spikes q (k^T v), per head."""

    def __init__(self, parts: Parts, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.entering = parts.spikes()
        self.q, self.k, self.v = (
            nn.Sequential(Reparametrised(parts, dim), parts.normed(channels=dim), parts.spikes())
            for _ in range(3)
        )
        self.leaving = parts.spikes(0.5)
        self.project = nn.Sequential(Reparametrised(parts, dim), parts.normed(channels=dim))

    def forward(self, x: Tensor) -> Tensor:
        """Attend over all positions."""
        steps, batch, dim, height, width = x.shape
        x = self.entering(x)
        q, k, v = (
            each(x)
            .flatten(3)
            .transpose(2, 3)
            .reshape(steps, batch, height * width, self.heads, -1)
            .transpose(2, 3)
            for each in (self.q, self.k, self.v)
        )
        y = (q @ (k.transpose(-2, -1) @ v)) * 0.125
        y = y.transpose(3, 4).reshape(steps, batch, dim, height, width)
        return self.project(self.leaving(y))


class AttentionBlock(nn.Module):
    """Block of a late stage: attention, then two 1x1 convolutions."""

    def __init__(self, parts: Parts, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(parts, dim, heads)
        self.channels = nn.Sequential(
            parts.spikes(),
            parts.normed(parts.conv(dim, 4 * dim), channels=4 * dim),
            parts.spikes(),
            parts.normed(parts.conv(4 * dim, dim), channels=dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add both to the currents."""
        x = self.attention(x) + x
        return self.channels(x) + x


class MetaSpikeFormer(nn.Module):
    """Stages of convolution blocks at 1/2, 1/4 and 1/8 of the resolution, and of attention at 1/16.

    `dims` are the channels of the last four stages (those of the first are half of `dims[0]`), `depths` the
    numbers of attention blocks of the two last. Returns logits (B, classes), the mean of the steps.
    """

    def __init__(
        self, layer: Any, neuron: Any, *, dims: Sequence[int], heads: int = 8, depths: Sequence[int] = (6, 2),
        time_steps: int = 4, classes: int = 1000,
    ) -> None:  # fmt: skip
        super().__init__()
        parts = Parts(layer, neuron)
        self.time_steps = time_steps

        def smaller(entering: int, leaving: int, kernel: int = 3, stride: int = 2) -> nn.Sequential:
            window = parts.conv(entering, leaving, kernel, stride=stride, padding=kernel // 2)
            return parts.normed(window, channels=leaving)

        half = dims[0] // 2
        self.stages = nn.Sequential(
            smaller(3, half, 7),
            ConvBlock(parts, half),
            parts.spikes(),
            smaller(half, dims[0]),
            ConvBlock(parts, dims[0]),
            parts.spikes(),
            smaller(dims[0], dims[1]),
            *(ConvBlock(parts, dims[1]) for _ in range(2)),
            parts.spikes(),
            smaller(dims[1], dims[2]),
            *(AttentionBlock(parts, dims[2], heads) for _ in range(depths[0])),
            parts.spikes(),
            smaller(dims[2], dims[3], stride=1),
            *(AttentionBlock(parts, dims[3], heads) for _ in range(depths[1])),
        )
        self.spikes = parts.spikes()
        self.head = parts.linear(dims[3], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (B, 3, H, W), repeated in each step."""
        y = self.stages(x.unsqueeze(0).repeat(self.time_steps, 1, 1, 1, 1))
        y = self.head(self.spikes(y.flatten(3).mean(3)))
        return torch.mean(y, 0)
