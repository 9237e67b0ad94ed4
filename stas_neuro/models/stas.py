"""The complete model: stem, blocks with halting, readout and head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stas_neuro.ir import POLICIES
from stas_neuro.models.block import MASK_LIF, Block, Packing, Visit
from stas_neuro.models.config import StasConfig
from stas_neuro.models.halting import Halting, Readout, soften
from stas_neuro.models.lif import TokenBatchNorm
from stas_neuro.models.stem import Stem


@dataclass(frozen=True)
class Output:
    """Result of a forward pass."""

    logits: Tensor
    """(B, classes)."""
    visits: Tensor
    """(B, T, L, N) bool: whether a token visited a block in a step."""
    ponder: Tensor
    """Scalar: mean over tokens of visits plus remainder; the gradient flows through the remainder."""
    soft_visits: Tensor
    """(B, T, L, N): the values of `visits`, with a gradient (`models.halting.soften`)."""
    running: Tensor | None = None
    """(B, T, classes): mean of the logits over the steps so far, of an image exit in training; else None."""

    @property
    def token_ratio(self) -> float:
        """Mean over tokens of visits / (T*L)."""
        return float(self.visits.double().mean())


class StasModel(nn.Module):
    """A spatio-temporally adaptive spiking vision transformer.

    Images are (B, C, H, W), normalised; event input is (B, T, C, H, W). Module names are the layer names in
    all later stages.
    """

    make_halting: Callable[[StasConfig, Tensor], Halting] = Halting
    """Replace it on a model to try another halting rule."""

    def __init__(self, config: StasConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = Stem(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head = nn.Linear(config.dim, config.num_classes)

    def forward(self, images: Tensor, *, skip: bool = False) -> Output:
        """Classify a batch.

        Parameters
        ----------
        images
            (B, C, H, W) or, for event input, (B, T, C, H, W).
        skip
            Compute live tokens only (inference). Otherwise halted tokens are computed and masked, as training
            requires; the result is the same.
        """
        # Residual stream and halting use the weights' dtype, even where autocast computes the stem in
        # bfloat16.
        tokens = self.stem(images).to(self.head.weight.dtype)
        if self.config.accumulate == "off":
            return self._all_visits(tokens)
        if self.training and POLICIES[self.config.accumulate].by_image:
            return self._exits(tokens)
        return self._halting_visits(tokens, skip)

    def commit_statistics(self) -> None:
        """Update the running statistics of all token normalisations, after a training step with halting."""
        for module in self.modules():
            if isinstance(module, TokenBatchNorm):
                module.commit()

    def _all_visits(self, tokens: Tensor) -> Output:
        """Run without halting."""
        config = self.config
        outputs = self._outputs(tokens)
        readout = Readout(config, tokens[0])
        for step in range(config.time_steps):
            for l, out in enumerate(outputs):
                readout.add(l, out[step], None, None)
        batch, count = tokens.shape[1:3]
        shape = (batch, config.time_steps, config.depth, count)
        visits = tokens.new_ones(shape)
        ponder = tokens.new_tensor(float(config.time_steps * config.depth))
        return Output(self.head(readout.feature()), visits.bool(), ponder, visits)

    def _outputs(self, tokens: Tensor) -> list[Tensor]:
        """Return the outputs (T, B, N, D) of the blocks.

        All steps of a block run together, so that batch statistics include all steps.
        """
        z = tokens.expand(self.config.time_steps, *tokens.shape[1:])
        outputs = []
        for block in self.blocks:
            z = block(z, Visit())
            outputs.append(z)
        return outputs

    def _exits(self, tokens: Tensor) -> Output:
        """Run all steps, and take the logits of the step at which each image halts.

        No step depends on an exit before it, so this is what `_halting_visits` computes, but for batch
        statistics; and steps after the exit can learn, too.
        """
        config = self.config
        logits = self.head(self._outputs(tokens)[-1].mean(2)).transpose(0, 1)
        sums = logits.cumsum(1)
        running = sums / torch.arange(1, config.time_steps + 1).to(logits)[:, None]
        first, second = (sums if config.summed else running).topk(2, dim=2).values.unbind(2)
        left = config.margin - (first - second)
        live, soft = [torch.ones_like(left[:, 0])], [torch.ones_like(left[:, 0])]
        closes = config.closes(config.depth - 1)
        for step in range(config.time_steps - 1):
            goes_on = closes is None or step < closes
            live.append(live[-1] * (left[:, step] > 0) * goes_on)
            soft.append(soften(live[-1], soft[-1] * goes_on, left[:, step] / (config.margin or 1.0)))
        steps, shape = torch.stack(live, 1), (config.depth, tokens.shape[2])
        last = steps.sum(1).long() - 1
        visits, smooth = (
            each[:, :, None, None].expand(-1, -1, *shape) for each in (steps, torch.stack(soft, 1))
        )
        chosen = running[torch.arange(len(last)), last]
        return Output(chosen, visits.bool(), steps.sum(1).mean() * config.depth, smooth, running)

    def _halting_visits(self, tokens: Tensor, skip: bool) -> Output:
        config = self.config
        halting = self.make_halting(config, tokens[0, ..., 0])
        halting.head = self.head
        readout = Readout(config, tokens[0])
        visited = _skipping if skip else _masking
        states = [_BlockState() for _ in self.blocks]
        for step in range(config.time_steps):
            z = tokens[step if len(tokens) > 1 else 0]
            for l, block in enumerate(self.blocks):
                live = halting.open(step, l)
                z = visited(block, z, live, states[l])
                readout.add(l, z, live, halting.visit(step, l, z))
        masks = torch.stack(halting.visits)  # (T*L, B, N)
        visits = masks.bool().unflatten(0, (config.time_steps, config.depth)).permute(2, 0, 1, 3)
        ponder = (masks.sum(0) + halting.remainder).mean()
        soft = torch.stack(halting.soft_visits).unflatten(0, (config.time_steps, config.depth))
        return Output(self.head(readout.feature()), visits, ponder, soft.permute(2, 0, 1, 3))


class _BlockState:
    """State of a block between its visits."""

    def __init__(self) -> None:
        self.membranes: dict[str, Tensor] = {}
        self.missed: Tensor | None = None
        """(B*N, 1) number of visits that each token has missed since its membranes were last updated."""


def _masking(block: nn.Module, z: Tensor, live: Tensor, state: _BlockState) -> Tensor:
    """Compute a visit for all tokens; halted tokens get a step without input, so their membranes leak."""
    out: Tensor = block((z * live.unsqueeze(-1)).unsqueeze(0), Visit(state.membranes, live.unsqueeze(0)))
    return out[0]


def _skipping(block: nn.Module, z: Tensor, live: Tensor, state: _BlockState) -> Tensor:
    """Compute a visit for live tokens only; the leak of missed visits is first applied to revived tokens."""
    packing = Packing(live.bool())
    rows = packing.rows
    if state.missed is None:
        state.missed = z.new_zeros(live.numel(), 1)
    leak = 0.5 ** state.missed[rows]
    packed = {
        name: v if name == MASK_LIF else v.flatten(0, 1)[rows] * leak for name, v in state.membranes.items()
    }
    visit = Visit(packed, packing=packing)
    out = block(z.flatten(0, 1)[rows].unsqueeze(0), visit)[0]
    for name, v in visit.membranes.items():
        if name == MASK_LIF:
            state.membranes[name] = v
            continue
        kept = state.membranes.get(name)
        if kept is None:
            kept = v.new_zeros(*live.shape, v.shape[-1])
        state.membranes[name] = kept.flatten(0, 1).index_copy(0, rows, v).reshape(kept.shape)
    state.missed += 1
    state.missed[rows] = 0
    return z.new_zeros(live.numel(), z.shape[-1]).index_copy(0, rows, out).reshape(z.shape)
