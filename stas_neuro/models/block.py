"""One encoder block of either backbone: spiking attention and MLP over the live tokens of a visit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from stas_neuro.models.config import (
    ATTENTION_SCALE,
    ATTENTION_THRESHOLD,
    THRESHOLD,
    StasConfig,
    per_backbone,
)
from stas_neuro.models.lif import LIF, SINGLE_STEP_GAIN, TokenBatchNorm

MASK_LIF = "mask_lif"  # the only LIF of a block whose neurons belong to the image, not to a token


@dataclass
class Packing:
    """Positions of packed rows (live tokens only) in the (B, N) grid of tokens."""

    live: Tensor
    """(B, N) bool."""
    rows: Tensor = field(init=False)
    """(M,) index of each row in the flattened grid."""

    def __post_init__(self) -> None:
        self.rows = self.live.flatten().nonzero().squeeze(1)
        self._image = self.rows // self.live.shape[1]
        position = self.live.cumsum(1).flatten()[self.rows] - 1
        self._width = int(self.live.sum(1).max())
        self._slots = self._image * self._width + position

    def per_image(self, x: Tensor) -> Tensor:
        """Unpack rows (1, M, C) to (1, B, most live tokens of an image, C), padded with zeros."""
        batch = self.live.shape[0]
        grid = x.new_zeros(batch * self._width, x.shape[-1])
        return grid.index_copy(0, self._slots, x[0]).reshape(1, batch, self._width, x.shape[-1])

    def to_rows(self, x: Tensor) -> Tensor:
        """Return the rows (1, M, C) of the result of :meth:`per_image`."""
        return x.flatten(1, 2)[:, self._slots]

    def spread(self, x: Tensor) -> Tensor:
        """Repeat a value per image (1, B, 1, C) for each of the image's rows, (1, M, C)."""
        return x[:, self._image, 0]


@dataclass
class Visit:
    """Input of a block besides its tokens: its membranes, and which tokens are live."""

    membranes: dict[str, Tensor] = field(default_factory=dict)
    live: Tensor | None = None
    """(S, B, N) of 0 or 1 if halted tokens are computed, too; None if only live tokens are."""
    packing: Packing | None = None


class SpikingAttention(nn.Module):
    """Spiking self-attention without softmax: ``(Q K^T) V * 0.125`` per head, in the cheaper order."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Map spikes (S, B, N, D) to currents of the same shape; both orders agree exactly (integers)."""
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(2, 3) for x in (q, k, v))
        # Cheaper than Q K^T if there are more tokens than channels per head.
        y = q @ (k.transpose(-1, -2) @ v) if q.shape[-2] > q.shape[-1] else (q @ k.transpose(-1, -2)) @ v
        return y.transpose(2, 3).flatten(3) * ATTENTION_SCALE


class Block(nn.Module):
    """An encoder block of Spikformer or Spikingformer with SSA or SDSA attention.

    Spikformer has a LIF after each linear layer and adds spikes to the residual stream; Spikingformer has it
    before each linear layer and adds membrane currents.
    """

    def __init__(self, config: StasConfig) -> None:
        super().__init__()
        self.backbone = config.backbone
        self.sdsa = config.attention == "sdsa"
        dim, hidden = config.dim, config.hidden
        gain = SINGLE_STEP_GAIN if config.time_steps == 1 else 1.0
        for name, into, out in (
            ("q", dim, dim),
            ("k", dim, dim),
            ("v", dim, dim),
            ("proj", dim, dim),
            ("fc1", dim, hidden),
            ("fc2", hidden, dim),
        ):
            biased = config.form.qkv_bias or name not in "qkv"
            setattr(self, name, nn.Linear(into, out, bias=biased))
            setattr(self, f"{name}_bn", TokenBatchNorm(out, gain))
        lifs = {name: THRESHOLD for name in ("q", "k", "v")}
        lifs |= {"mask" if self.sdsa else "attn": ATTENTION_THRESHOLD}
        lifs |= dict.fromkeys(config.form.block_lifs, THRESHOLD)
        for name, threshold in lifs.items():
            setattr(self, f"{name}_lif", LIF(threshold, config.fire))
        if not self.sdsa:
            self.attn = SpikingAttention(config.heads)

    def forward(self, x: Tensor, visit: Visit) -> Tensor:
        """Map a residual stream (S, B, N, D) or packed (1, M, D) to the same shape.

        Updates ``visit.membranes``. Halted tokens of a dense ``x`` must be zero.
        """
        return _FORWARDS[self.backbone](self, x, visit)

    def _spikformer(self, x: Tensor, visit: Visit) -> Tensor:
        x = x + self._spike("proj", self._attention(x, visit), visit)
        return x + self._spike("fc2", self._spike("fc1", x, visit), visit)

    def _spikingformer(self, x: Tensor, visit: Visit) -> Tensor:
        x = x + self._linear("proj", self._attention(self._lif("in", x, visit), visit), visit)
        hidden = self._linear("fc1", self._lif("fc1", x, visit), visit)
        return x + self._linear("fc2", self._lif("fc2", hidden, visit), visit)

    def _attention(self, x: Tensor, visit: Visit) -> Tensor:
        packing = visit.packing
        q, k, v = (self._spike(name, x, visit) for name in "qkv")
        if self.sdsa:
            kv = k * v if packing is None else packing.per_image(k * v)
            mask = self._lif("mask", kv.sum(2, keepdim=True), visit)
            return q * (mask if packing is None else packing.spread(mask))
        if packing is None:
            current = self.attn(q, k, v)
        else:
            current = packing.to_rows(self.attn(*(packing.per_image(s) for s in (q, k, v))))
        return self._lif("attn", current, visit)

    def _linear(self, name: str, x: Tensor, visit: Visit) -> Tensor:
        y: Tensor = getattr(self, f"{name}_bn")(getattr(self, name)(x), visit.live)
        return y

    def _lif(self, name: str, x: Tensor, visit: Visit) -> Tensor:
        name += "_lif"
        spikes, visit.membranes[name] = getattr(self, name)(x, visit.membranes.get(name))
        out: Tensor = spikes
        return out

    def _spike(self, name: str, x: Tensor, visit: Visit) -> Tensor:
        return self._lif(name, self._linear(name, x, visit), visit)


_FORWARDS: Mapping[str, Callable[[Block, Tensor, Visit], Tensor]] = per_backbone(
    "what a block computes", {"spikformer": Block._spikformer, "spikingformer": Block._spikingformer}
)
