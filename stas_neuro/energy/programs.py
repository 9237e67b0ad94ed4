"""Neurons that a chip's stock neuron does not cover, and that need a program (microcode) of their own."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from stas_neuro.activity import HALTING_KINDS, Activity, neuron_rows
from stas_neuro.chips.capabilities import PRODUCT_KINDS
from stas_neuro.energy.gating import Flags
from stas_neuro.energy.timing import Flow, phase_of


def program_rows(activity: Activity, flow: Flow) -> Flags:
    """Return the rows whose neurons need a program, bool (rows,).

    These are the neurons of halting units and of products of spikes; of a stem that sends again in model
    steps what it computed once; and, where stages of a model step have their turn one after another, all
    neurons of model steps, because a stock LIF leaks while others are computed.
    """
    owners = neuron_rows(activity.layers)
    in_steps = [step for step, label in enumerate(activity.steps) if phase_of(label) == "step"]
    starts = [n for step in in_steps for n, tick in enumerate(flow.ticks) if (step, 0) in tick.work]
    waits = any(later - earlier > 1 for earlier, later in pairwise(starts))
    needed = np.zeros(len(activity.layers), dtype=np.bool_)
    for row, layer in enumerate(activity.layers):
        sends_again = layer.phase == "once" and activity.counts["axon_messages"][:, row, in_steps].any()
        stepwise = waits and layer.phase in ("stem", "step")
        if layer.kind in (*HALTING_KINDS, *PRODUCT_KINDS) or sends_again or stepwise:
            needed[[row, owners[row]]] = True
    return needed[owners]
