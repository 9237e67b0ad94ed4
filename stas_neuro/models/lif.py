"""LIF neurons and batch normalisation over tokens: norse's box neuron with an explicit membrane."""

from __future__ import annotations

import math

import torch
from norse.torch.functional.lif_box import (
    LIFBoxFeedForwardState,
    LIFBoxParameters,
    lif_box_feed_forward_step,
)
from torch import Tensor, distributed, nn

from stas_neuro.models.config import TAU

# Surrogate gradient 1 - tanh(slope * (v - threshold))^2. (norse's default, SuperSpike, ignores its slope
# parameter in 1.1 and is too wide for some thirty consecutive layers of neurons.)
SURROGATE, SURROGATE_SLOPE = "tanh", 2.0

# Initial gain of a normalisation before a LIF that runs one step from rest. Its membrane reaches half its
# input: with a gain of 1 it would fire only above two standard deviations, and pass almost no gradient.
SINGLE_STEP_GAIN = 2.0


def _detached_reset(z: Tensor, v: Tensor, v_reset: Tensor, v_th: Tensor) -> Tensor:
    # The gradient must not flow through the reset: it would make a neuron fire less in order to keep charge.
    return (1 - z.detach()) * v


class LIF(nn.Module):
    """Leaky integrate-and-fire: ``v <- v + (x - v)/tau``, spike where v passes threshold, reset to 0.

    Parameters
    ----------
    threshold
        Firing threshold.
    fire
        ``">"`` (norse, Lava) or ``">="`` (SpikingJelly).
    """

    def __init__(self, threshold: float, fire: str) -> None:
        super().__init__()
        self.threshold = threshold
        self.fire = fire

    def forward(self, x: Tensor, v: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run S steps with input ``x`` (S, ...) from membrane ``v`` (...), zero if None.

        Returns spikes (S, ...) and the membrane (...).
        """
        threshold = self.threshold
        if self.fire == ">=":
            # norse fires on ">", which equals ">=" for the largest number below the threshold.
            power = 2.0 ** math.floor(math.log2(threshold))
            # Floats are twice as dense below a power of two as above it.
            threshold -= torch.finfo(x.dtype).eps * power / (2 if threshold == power else 1)
        parameters = LIFBoxParameters(
            tau_mem_inv=1.0 / TAU,
            v_leak=0.0,
            v_th=threshold,
            v_reset=0.0,
            method=SURROGATE,
            alpha=SURROGATE_SLOPE,
            reset_method=_detached_reset,
        )
        state = LIFBoxFeedForwardState(v=torch.zeros_like(x[0]) if v is None else v)
        spikes = []
        for current in x:
            z, state = lif_box_feed_forward_step(current, state, parameters, dt=1.0)
            spikes.append(z)
        return torch.stack(spikes), state.v


class TokenBatchNorm(nn.Module):
    """Batch normalisation of the last dimension, over live tokens only.

    Without halting (``live`` None), training uses batch statistics, as usual. With halting, the batch
    statistics of visits would differ from each other and from those used for inference. Training therefore
    normalises with the running statistics, and collects the statistics of live tokens over all visits;
    :meth:`commit` then updates the running statistics.
    """

    def __init__(self, features: int, gain: float = 1.0, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.full((features,), gain))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.running_mean: Tensor
        self.running_var: Tensor
        self._gathered: list[Tensor] = []  # per visit: count, sum, sum of squares

    def forward(self, x: Tensor, live: Tensor | None = None) -> Tensor:
        """Normalise ``x`` (..., features); where ``live`` (...) is 0, the output is 0 (no shift either)."""
        flat = x.reshape(-1, x.shape[-1])
        if live is None:
            y = nn.functional.batch_norm(
                flat,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                self.training,
                self.momentum,
                self.eps,
            )
            return y.reshape(x.shape)
        if self.training:
            with torch.no_grad():
                weight = live.reshape(-1, 1)
                wide = flat.to(weight)  # bfloat16 is not precise enough for sums over many rows
                masked = wide * weight
                self._gathered.append(
                    torch.cat([weight.sum().reshape(1), masked.sum(0), (masked * wide).sum(0)])
                )
        y = nn.functional.batch_norm(
            flat, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )
        return y.reshape(x.shape) * live.unsqueeze(-1).to(y)

    @torch.no_grad()
    def commit(self) -> None:
        """Update the running statistics with those collected in training visits since the last call."""
        if not self._gathered:
            return
        total = torch.stack(self._gathered).sum(0)
        self._gathered.clear()
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(total)
        count = total[0].clamp(min=1)
        features = self.weight.numel()
        mean = total[1 : 1 + features] / count
        var = (total[1 + features :] / count - mean**2).clamp(min=0)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var, self.momentum)
