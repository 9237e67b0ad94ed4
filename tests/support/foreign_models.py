"""Spikformer and Spikingformer in plain torch, with the names of tensors that published code gives them.

Written from the published classes, and sharing nothing with what is tested.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

_SPS = ("proj_conv", "proj_conv1", "proj_conv2", "proj_conv3", "rpe_conv")
_TOKENIZER = ("proj_conv", "proj1_conv", "proj2_conv", "proj3_conv", "proj4_conv")
_BLOCKS = ("block0_conv", "block1_conv", "block2_conv", "block3_conv", "block4_conv")


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a published class names and builds what it is made of; `kinds` are of attention and MLP."""

    arch: str
    stem: tuple[str, ...]
    kinds: tuple[type[nn.Module], type[nn.Module]]
    mlp: tuple[str, str]
    pooled: int
    qkv_bias: bool = False
    proj_bias: bool = True
    norms: bool = True
    of_step: bool = False
    events: bool = False
    tau: float = 2.0
    scale: float = 0.125


_FC, _MLP = ("fc1", "fc2"), ("mlp1", "mlp2")
_LINEAR, _CONV, _CONV1 = (nn.Linear, nn.Linear), (nn.Conv1d, nn.Conv2d), (nn.Conv1d, nn.Conv1d)
STYLES: Mapping[str, Style] = {
    "Spikformer, CIFAR": Style(
        arch="spikformer", stem=_SPS, kinds=_LINEAR, mlp=_FC, pooled=2, qkv_bias=True
    ),
    "Spikformer of STEP, CIFAR": Style(
        arch="spikformer", stem=_SPS, kinds=_LINEAR, mlp=_FC, pooled=2, qkv_bias=True, norms=False,
        of_step=True,
    ),
    "Spikformer, ImageNet": Style(arch="spikformer", stem=_SPS, kinds=_CONV, mlp=_FC, pooled=4),
    "Spikformer of STEP, ImageNet": Style(
        arch="spikformer", stem=_SPS, kinds=_CONV, mlp=_FC, pooled=4, proj_bias=False, of_step=True
    ),
    "Spikformer, events": Style(
        arch="spikformer", stem=_SPS, kinds=_CONV1, mlp=_FC, pooled=4, events=True, scale=0.25
    ),
    "Spikingformer, CIFAR": Style(arch="spikingformer", stem=_BLOCKS, kinds=_CONV, mlp=_MLP, pooled=2),
    "Spikingformer, ImageNet": Style(arch="spikingformer", stem=_TOKENIZER, kinds=_CONV, mlp=_MLP, pooled=4),
    "Spikingformer, events": Style(
        arch="spikingformer", stem=_TOKENIZER, kinds=_CONV, mlp=_MLP, pooled=4, events=True, tau=1.5
    ),
    "Spikingformer of STEP, CIFAR": Style(
        arch="spikingformer", stem=_SPS, kinds=_CONV, mlp=_FC, pooled=2, proj_bias=False, norms=False,
        of_step=True,
    ),
}  # fmt: skip


class _Slope(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(4.0))


class Neuron(nn.Module):
    """v += (x - v) / tau, fires where v reaches the threshold, which sets it to 0; keeps its last spikes."""

    def __init__(self, style: Style, threshold: float = 1.0) -> None:
        super().__init__()
        self.tau = style.tau
        self.threshold: Any = threshold
        if style.of_step:
            del self.threshold
            self.threshold = nn.Parameter(torch.tensor(threshold))
            self.act_fun = _Slope()

    def forward(self, x: Tensor) -> Tensor:
        """Steps first."""
        v, spikes = torch.zeros_like(x[0]), []
        for current in x:
            v = v + (current - v) / self.tau
            spikes.append((v >= self.threshold).to(v.dtype))
            v = v * (1 - spikes[-1])
        self.spikes = torch.stack(spikes)
        return self.spikes


class _Stem(nn.Module):
    def __init__(self, style: Style, channels: int, dim: int) -> None:
        super().__init__()
        self.style = style
        widths = (channels, dim // 8, dim // 4, dim // 2, dim, dim)
        for name, (into, out) in zip(style.stem, pairwise(widths), strict=True):
            setattr(self, name, nn.Conv2d(into, out, 3, padding=1, bias=False))
            setattr(self, name.replace("conv", "bn"), nn.BatchNorm2d(out))
            if style.arch == "spikformer" or name != style.stem[0]:
                setattr(self, name.replace("conv", "lif"), Neuron(style))

    def _layer(self, name: str, x: Tensor) -> Tensor:
        y = getattr(self, name.replace("conv", "bn"))(getattr(self, name)(x.flatten(0, 1)))
        return y.unflatten(0, x.shape[:2])  # type: ignore[no-any-return]

    def _fire(self, stage: int, name: str, x: Tensor) -> Tensor:
        x = getattr(self, name.replace("conv", "lif"))(x)
        if stage >= 4 - self.style.pooled:
            x = nn.functional.max_pool2d(x.flatten(0, 1), 3, 2, 1).unflatten(0, x.shape[:2])
        return x

    def forward(self, x: Tensor) -> Tensor:
        *stages, last = self.style.stem
        if self.style.arch == "spikformer":
            for stage, name in enumerate(stages):
                x = self._fire(stage, name, self._layer(name, x))
            return x + self.rpe_lif(self._layer(last, x))  # type: ignore[no-any-return]
        x = self._layer(stages[0], x)
        for stage, name in enumerate((*stages[1:], last)):
            x = self._layer(name, self._fire(stage, name, x))
        return x


class _Layers(nn.Module):
    """Layers and normalisations over (T, B, C, N), by the names that a kind of layer gives them."""

    def add(self, name: str, kind: type[nn.Module], into: int, out: int, bias: bool) -> None:
        suffix = "linear" if kind is nn.Linear else "conv"
        layer = nn.Linear(into, out, bias) if kind is nn.Linear else kind(into, out, 1, bias=bias)
        setattr(self, f"{name}_{suffix}", layer)
        setattr(self, f"{name}_bn", nn.BatchNorm2d(out) if kind is nn.Conv2d else nn.BatchNorm1d(out))

    def layer(self, name: str, x: Tensor) -> Tensor:
        norm, flat = getattr(self, f"{name}_bn"), x.flatten(0, 1)
        if hasattr(self, f"{name}_linear"):
            y = norm(getattr(self, f"{name}_linear")(flat.mT).mT)
        elif isinstance(norm, nn.BatchNorm2d):
            y = norm(getattr(self, f"{name}_conv")(flat.unsqueeze(-1))).squeeze(-1)
        else:
            y = norm(getattr(self, f"{name}_conv")(flat))
        return y.unflatten(0, x.shape[:2])  # type: ignore[no-any-return]


class _Attention(_Layers):
    def __init__(self, style: Style, dim: int, heads: int) -> None:
        super().__init__()
        self.style, self.heads = style, heads
        for name in "qkv":
            self.add(name, style.kinds[0], dim, dim, style.qkv_bias)
        self.add("proj", style.kinds[0], dim, dim, style.proj_bias)
        for name in ("q", "k", "v", "proj"):
            setattr(self, f"{name}_lif", Neuron(style))
        self.attn_lif = Neuron(style, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        if self.style.arch == "spikingformer":
            x = self.proj_lif(x)
        parts = [getattr(self, f"{name}_lif")(self.layer(name, x)) for name in "qkv"]
        q, k, v = (part.unflatten(2, (self.heads, -1)).mT for part in parts)
        x = self.attn_lif((((q @ k.mT) @ v) * self.style.scale).mT.flatten(2, 3))
        x = self.layer("proj", x)
        return x if self.style.arch == "spikingformer" else self.proj_lif(x)


class _Mlp(_Layers):
    def __init__(self, style: Style, dim: int, hidden: int) -> None:
        super().__init__()
        self.style = style
        for name, into, out in zip(style.mlp, (dim, hidden), (hidden, dim), strict=True):
            self.add(name, style.kinds[1], into, out, True)
            setattr(self, f"{name}_lif", Neuron(style))

    def forward(self, x: Tensor) -> Tensor:
        for name in self.style.mlp:
            neuron = getattr(self, f"{name}_lif")
            first = self.style.arch == "spikingformer"
            x = self.layer(name, neuron(x)) if first else neuron(self.layer(name, x))
        return x


class _Block(nn.Module):
    def __init__(self, style: Style, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attn = _Attention(style, dim, heads)
        self.mlp = _Mlp(style, dim, hidden)
        if style.norms:  # published code makes these and does not use them
            self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


class Foreign(nn.Module):
    """A published network with random weights and statistics with which its layers fire."""

    def __init__(
        self, style: Style, *, dim: int = 16, heads: int = 2, depth: int = 2, hidden: int = 40, steps: int = 3
    ) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.style, self.steps = style, steps
        self.patch_embed = _Stem(style, 2 if style.events else 3, dim)
        self.block = nn.ModuleList(_Block(style, dim, heads, hidden) for _ in range(depth))
        self.head = nn.Linear(dim, 5)
        if style.events and style.arch == "spikformer":
            self.norm = nn.LayerNorm(dim)
            self.pos_embed = nn.Parameter(torch.zeros(1, 4, dim))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 1.5, 3.0)
                nn.init.normal_(module.bias, 0.8, 0.8)
                nn.init.normal_(module.running_mean, 0.0, 0.1)
                nn.init.uniform_(module.running_var, 0.2, 1.0)
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W), or (B, T, C, H, W) of events, to logits."""
        x = images.transpose(0, 1) if self.style.events else images.expand(self.steps, *images.shape)
        x = self.patch_embed(x).flatten(3)
        for block in self.block:
            x = block(x)
        logits: Tensor = self.head(x.mean(3).mean(0))
        return logits

    def spikes(self) -> Iterator[tuple[str, Tensor]]:
        """Give what each neuron fired last, (T, B, C, N), with its name here."""
        for name, module in self.named_modules():
            if isinstance(module, Neuron):
                yield name, module.spikes.flatten(3)
