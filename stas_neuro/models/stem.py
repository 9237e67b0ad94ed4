"""Patch-embedding stems: from an image to tokens, once per inference (I-SPS) or at every time step (SPS)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from stas_neuro.models.config import EARLY_STEMS, LATE_STEMS, STEM_STAGES, THRESHOLD, StasConfig
from stas_neuro.models.lif import LIF, SINGLE_STEP_GAIN


class Integrate(nn.Module):
    """Merges the T steps of a spike train into one value that every later time step reuses."""

    def __init__(self, mode: str, time_steps: int) -> None:
        super().__init__()
        self.mode = mode
        if mode == "learned":
            self.weights = nn.Parameter(torch.full((time_steps,), 1.0 / time_steps))

    def forward(self, x: Tensor) -> Tensor:
        """Map (T, B, ...) to (1, B, ...)."""
        if self.mode == "learned":
            weighted: Tensor = torch.tensordot(self.weights, x, dims=1).unsqueeze(0)
            return weighted
        if self.mode == "max":
            return torch.amax(x, 0, keepdim=True)
        return (torch.mean if self.mode == "mean" else torch.sum)(x, 0, keepdim=True)


class Stem(nn.Module):
    """Four spiking convolution stages; in Spikformer a relative-position convolution is added to them.

    A stage of Spikformer is convolution, normalisation, LIF. Spikingformer has the LIF before each
    convolution except the first, so its tokens are membrane currents. The last ``log2(patch_size)`` stages
    halve the map by a 3x3 max-pool of spikes.
    """

    def __init__(self, config: StasConfig) -> None:
        super().__init__()
        self.config = config
        channels = (config.in_channels, *config.stem_channels)
        if config.form.lif_first:
            channels = (*channels, config.dim)
        for i, (into, out) in enumerate(pairwise(channels)):
            setattr(self, f"conv{i}", nn.Conv2d(into, out, 3, padding=1, bias=False))
            setattr(self, f"bn{i}", _norm(out))
        for i in self.lif_stages:
            setattr(self, f"lif{i}", LIF(THRESHOLD, config.fire))
            if self.pools_at(i):
                setattr(self, f"pool{i}", nn.MaxPool2d(3, stride=2, padding=1))
        if config.form.position:
            self.rpe = nn.Conv2d(config.dim, config.dim, 3, padding=1, bias=False)
            self.rpe_bn = _norm(config.dim)
            self.rpe_lif = LIF(THRESHOLD, config.fire)
        if config.stem == "one-step":
            if config.event_input:
                self.integrate = Integrate("mean", config.time_steps)
        elif config.stem != "sps":
            self.integrate = Integrate(config.stem.removeprefix("late-"), config.time_steps)

    @property
    def lif_stages(self) -> range:
        """Numbers of the stages that have a LIF: 0..3, where it comes first 1..4."""
        first = int(self.config.form.lif_first)
        return range(first, first + STEM_STAGES)

    def conv_after(self, stage: int) -> int:
        """Number of the convolution that takes what the LIF of a stage sends."""
        return stage if self.config.form.lif_first else stage + 1

    def pools_at(self, stage: int) -> bool:
        """Return whether the LIF of this stage is followed by a halving max-pool."""
        return stage in self.lif_stages[STEM_STAGES - self.config.pools :]

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, C, H, W), or (B, T, C, H, W) for event input, to tokens (1 or T, B, N, D)."""
        config = self.config
        x = images.transpose(0, 1) if config.event_input else images.unsqueeze(0)
        if config.stem == "one-step" and config.event_input:
            x = self.integrate(x)
        x = self._conv(0, x)
        first = self.lif_stages[0]
        for i in self.lif_stages:
            if i == first and config.stem != "one-step" and not config.event_input:
                x = x.expand(
                    config.time_steps, *x.shape[1:]
                )  # a still image drives the first LIF for T steps
            x, _ = getattr(self, f"lif{i}")(x)
            if self.pools_at(i):
                x = _per_map(getattr(self, f"pool{i}"), x)
            if i == first and config.stem in EARLY_STEMS:
                x = self.integrate(x)
            following = self.conv_after(i)
            if hasattr(self, f"conv{following}"):
                x = self._conv(following, x)
        if config.form.position:
            rpe = self.rpe_lif(_per_map(self.rpe_bn, _per_map(self.rpe, x)))[0]
            x = x + rpe
        if config.stem in LATE_STEMS:
            x = self.integrate(x)
        return x.flatten(3).transpose(2, 3)

    def _conv(self, stage: int, x: Tensor) -> Tensor:
        return _per_map(getattr(self, f"bn{stage}"), _per_map(getattr(self, f"conv{stage}"), x))


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    nn.init.constant_(norm.weight, SINGLE_STEP_GAIN)
    return norm


def _per_map(module: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = module(x.flatten(0, 1))
    return y.reshape(*x.shape[:2], *y.shape[1:])
