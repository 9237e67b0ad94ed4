"""The score of a whole image: whether its running prediction is clear."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stas_neuro.ir import WORD_LIMIT, FixedImageScore, Graph, ImageScore, Node
from stas_neuro.reference.ops.base import (
    Counted,
    Inputs,
    Kinds,
    NodeContext,
    Outputs,
    Rules,
    Shared,
    Values,
    shifted_right,
    synaptic_events,
)


def _image_score(node: ImageScore, inputs: Inputs, context: NodeContext) -> Outputs:
    z, tensors = inputs["z"], context.tensors
    logits = z.mean(axis=1) @ tensors["weight"].T + tensors["bias"]
    return _decide(z, logits, (node.margin, node.summed), 1, context)


def _fixed_image_score(node: FixedImageScore, inputs: Inputs, context: NodeContext) -> Outputs:
    z = shifted_right(inputs["z"], node.z_shift).clip(-node.z_limit, node.z_limit)
    sums = shifted_right(z.sum(axis=1) @ context.tensors["weight"].T, node.shift)
    sums = sums + context.tensors["bias"] * 2**node.bias_exp
    return _decide(z, sums, (node.threshold, node.summed), 1 << node.score_bits, context)


def _decide(z: Values, logits: Values, lead: tuple[float, bool], one: int, context: NodeContext) -> Outputs:
    """Add the logits (B, classes) of a step, and give `one` to the tokens of clear images.

    `lead` is the margin, and whether it is that of the sum over steps.
    """
    margin, summed = lead
    sums = context.state.get("sums", np.zeros_like(logits)) + logits
    context.state["sums"] = sums
    ordered = np.sort(sums, axis=1)
    due = margin if summed else (context.step + 1) * margin
    clear = ordered[:, -1] - ordered[:, -2] >= due
    h: Values = np.where(clear[:, None], np.full(z.shape[:2], one, z.dtype), np.zeros(z.shape[:2], z.dtype))
    return {"h": h}


def _sums(graph: Graph, node: FixedImageScore, size: Mapping[str, int]) -> int:
    return WORD_LIMIT  # what the graph was refused for if its sums could pass it


def _count_image_score(node: ImageScore, inputs: Inputs, outputs: Inputs, kinds: Kinds) -> Counted:
    """Count a synapse to each class for each input, and a decision for each token that visits.

    Each core with tokens of the image adds up all classes by itself.
    """
    z = inputs["z"]
    visited = inputs.get("alive", np.ones_like(outputs["h"]))
    z = z * visited[:, :, None]  # where halted tokens are computed and thrown away, theirs is not 0
    driven = Shared(np.count_nonzero(z, axis=(1, 2))[:, None, None] * node.classes)

    def unary() -> Shared:
        return Shared(z.sum(axis=(1, 2), dtype=np.float64)[:, None, None] * node.classes)

    return [("score_lookups", visited[:, :, None] != 0), *synaptic_events(driven, unary, kinds["z"])]


RULES: Mapping[type[Node], Rules] = {
    ImageScore: Rules(
        floats=_image_score,
        integers=_fixed_image_score,
        between=_sums,
        count=_count_image_score,
    ),
}
