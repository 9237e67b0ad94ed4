"""Integers of halting and readout: the table of scores, and shifts that keep sums within a core's bits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stas_neuro.errors import InputError
from stas_neuro.ir import (
    BIAS_LIMIT,
    POLICIES,
    STATE_LIMIT,
    WORD_LIMIT,
    Array,
    Graph,
    HaltingScore,
    ImageScore,
    Range,
    Readout,
)

SCORE_BITS = 12
"""Bits of a halting score, where the readout's sums leave room for them."""
_FEWEST_SCORE_BITS = 6
TABLE_ENTRIES = 1024
"""Most entries of a score's table."""
_FARTHEST = 2**15
"""Largest magnitude of the value at which a table begins."""
_CURRENT_STEPS = 512
"""Steps that half the range of a real-valued block output gets, if scores can spare the bits."""
_DIVIDE_BITS = 12
_LARGEST_OUTPUT = 2**12
"""Finer steps than this of a readout's range would only make the head's weights small beside its bias."""
_HEAD_REACH = 2**16
"""Largest output times features that a head of full weights takes at its smallest exponent."""


@dataclass(frozen=True)
class ScoreTable:
    """What `FixedHaltingScore` holds."""

    shift: int
    low: int
    table: Array


def score_table(node: HaltingScore, unit: float, reach: Range, bits: int) -> ScoreTable:
    """Tabulate sigmoid(alpha * z + beta) over the integers that z can be, each standing for `unit`."""
    low, high = reach
    if node.alpha * unit:  # else, of next to nothing too, the score is that of 0 everywhere
        # Beyond these arguments the score is 0 or 1 to the last bit.
        flat = (bits + 2) * math.log(2)
        ends = sorted((side * flat - node.beta) / (node.alpha * unit) for side in (-1, 1))
        low, high = (round(min(max(end, reach.low), reach.high)) for end in ends)
    shift = 0
    # A score that is 0 or 1 all over the range has both ends at the same end of it, however far.
    while (high >> shift) - (low >> shift) >= TABLE_ENTRIES or abs(low >> shift) > _FARTHEST:
        shift += 1
    steps = np.arange(low >> shift, (high >> shift) + 1)
    middle = (steps * 2**shift + (2**shift - 1) / 2) * unit
    with np.errstate(over="ignore"):  # an infinite argument has a score of 0 or 1
        argument = node.alpha * middle + node.beta
    small = np.exp(-np.abs(argument))
    scores = np.where(argument >= 0, 1, small) / (1 + small)
    return ScoreTable(shift, int(steps[0]), np.rint(scores * 2**bits).astype(np.int64))


@dataclass(frozen=True)
class ReadoutPlan:
    """Bits of a score and what `FixedReadout` holds; `unit` and `offset` tell what its output stands for."""

    score_bits: int
    z_shift: int
    z_limit: int
    divide_bits: int
    y_shift: int
    reach: Range
    unit: float
    offset: float


def plan_readout(
    graph: Graph, node: Readout, unit: float, reach: Range, needed: int, is_events: bool, limit: int
) -> ReadoutPlan:
    """Fit the readout's sums into `limit`.

    Parameters
    ----------
    unit, reach
        Of the blocks' outputs; `needed` is how large they have to be told apart, the rest is clipped.
    is_events
        Whether they are whole numbers of spikes, of which none may be lost.

    Raises
    ------
    InputError
        When the sums do not fit with the fewest bits of a score.
    """
    tokens, features = graph.types[_last_block(graph, node)].shape
    policy = POLICIES.get(graph.halting)
    weighted = policy is not None and node.mode == "mean-field"
    divides = node.normalise or node.mode == "rate"

    def weight(bits: int) -> int:
        """Largest sum of weights of one token."""
        if policy is None or not weighted:
            return 1 if node.mode == "last-state" else graph.time_steps
        one = 1 << bits
        return policy.largest_weight(one, [one] * len(graph.accumulators), graph.time_steps)

    def room(bits: int) -> int:
        """Largest value of z that fits."""
        return limit // (weight(bits) * (1 if divides else tokens))

    wanted = needed if is_events else min(needed, _CURRENT_STEPS)
    fitting = [bits for bits in range(SCORE_BITS, _FEWEST_SCORE_BITS - 1, -1) if room(bits) > wanted]
    if not fitting:
        raise InputError(
            f"sums of {tokens} tokens with values up to {needed} leave {limit}, even with scores of"
            f" {_FEWEST_SCORE_BITS} bits",
            "use a larger patch or fewer blocks",
        )
    bits = fitting[0]
    z_shift = 0
    while (needed >> z_shift) + 1 > room(bits):
        z_shift += 1
    z_limit = min(room(bits), max(needed >> z_shift, 1) + (not is_events))
    z = Range(max(reach.low >> z_shift, -z_limit), min(reach.high >> z_shift, z_limit)).with_zero()
    divide_bits = 0
    sums = z.times(weight(bits) * tokens)
    real = unit * 2**z_shift / tokens
    if divides:
        divide_bits = _DIVIDE_BITS
        while z.magnitude * max(weight(bits), tokens) << divide_bits > WORD_LIMIT:
            divide_bits -= 1
        sums, real = z.times(tokens << divide_bits), real / 2**divide_bits
    elif policy is not None and weighted:
        real /= 2**bits * (graph.time_steps if policy.fills == "step" else 1)
    elif node.mode != "last-state":
        real /= graph.time_steps
    y_shift = 0
    while (sums.magnitude >> y_shift) > min(_HEAD_REACH // features, _LARGEST_OUTPUT):
        y_shift += 1
    return ReadoutPlan(
        score_bits=bits,
        z_shift=z_shift,
        z_limit=z_limit,
        divide_bits=divide_bits,
        y_shift=y_shift,
        reach=sums.shifted(y_shift),
        unit=real * 2**y_shift,
        # A shift to the right rounds down: on average by half a step.
        offset=(unit * (2**z_shift - 1) + real * (2**y_shift - 1)) / 2,
    )


def _last_block(graph: Graph, node: Readout) -> tuple[str, str]:
    edge = graph.inputs(node)[f"z{node.blocks - 1}"]
    return edge.src, edge.src_port


@dataclass(frozen=True)
class ImageScorePlan:
    """What `FixedImageScore` holds beside the score bits, which it shares with the readout."""

    weight: Array
    bias: Array
    weight_bits: int
    z_shift: int
    z_limit: int
    shift: int
    bias_exp: int
    threshold: int


def plan_image_score(
    graph: Graph, node: ImageScore, unit: float, reach: Range, readout: ReadoutPlan, bits: int
) -> ImageScorePlan:
    """Fit the sums of the classes into a state; `unit` and `reach` are those of the last block's output.

    Outputs are shifted as for the readout, or further where their products would not fit a word.

    Raises
    ------
    InputError
        When the sums do not fit however coarse their unit is.
    """
    tokens, steps = graph.tokens, graph.time_steps
    weight = graph.tensor(node, "weight").astype(np.float64)
    delta = float(np.abs(weight).max()) / (2 ** (bits - 1) - 1) or 1.0
    integers = np.rint(weight / delta).astype(np.int64)
    per_value = tokens * int(np.abs(integers).sum(1).max())
    z_shift, z_limit = readout.z_shift, readout.z_limit
    while z_limit > 1 and per_value * min(reach.shifted(z_shift).magnitude, z_limit) > WORD_LIMIT:
        z_shift, z_limit = z_shift + 1, z_limit // 2
    z = min(reach.shifted(z_shift).magnitude, z_limit)
    product = per_value * z
    # Shifted to the right, z is half a step too low on average.
    bias = graph.tensor(node, "bias") + weight.sum(1) * unit * (2**z_shift - 1) / 2
    for shift in range(32 if product <= WORD_LIMIT else 0):
        # What one unit of a sum stands for, of logits that are summed over tokens.
        real = delta * unit * 2.0 ** (z_shift + shift)
        biases = bias * tokens / real
        bias_exp = next((e for e in range(8) if np.abs(np.rint(biases / 2**e)).max() <= BIAS_LIMIT), None)
        if bias_exp is None:
            continue
        held = np.rint(biases / 2**bias_exp).astype(np.int64)
        each = (product >> shift) + 1 + (int(np.abs(held).max()) << bias_exp)
        if each * steps > STATE_LIMIT:
            continue
        # Sums of t steps differ by at most 2 t times `each`: a threshold above that is never reached.
        most = 2.0 * each * (steps if node.summed else 1) + 1
        threshold = math.ceil(min(node.margin * tokens / real, most))
        return ImageScorePlan(integers, held, bits, z_shift, z_limit, shift, bias_exp, threshold)
    raise InputError(
        f"the sums of its classes over {tokens} tokens, each up to {z}, do not fit a state of "
        f"{STATE_LIMIT.bit_length() + 1} bits",
        "use fewer bits, or lower the biases of the head",
    )
