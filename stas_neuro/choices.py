"""What options can be, in words: read by help texts, so nothing is imported that takes long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Gating = Literal["silent", "none", "core", "power"]
GATINGS: Mapping[Gating, str] = {
    "silent": "halted tokens send nothing, their neurons are still stepped, as idle ones are: today's Loihi",
    "none": "halted tokens are computed and thrown away",
    "core": "a core whose tokens at work have all halted, or that has nothing at work, is not stepped",
    "power": "as core, and a core that is not stepped takes no more static power than a gated one",
}
"""What each gating mode means, as reports tell it."""

Schedule = Literal["raster", "pipelined", "pipelined-stale"]
SCHEDULES: Mapping[Schedule, str] = {
    "raster": "one spiking stage of one model step after another; neurons keep their state while others work",
    "pipelined": "model steps follow each other one hardware step apart, all stages at work",
    "pipelined-stale": "model steps begin before the one before has ended: halting decides by the scores "
    "that have arrived, as it did in this run",
}
"""What each schedule means, as reports tell it."""

Strategy = Literal["channel-major", "token-major", "halting-aware"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
"""How a block is cut into what cores hold."""
Objective = Literal["core-steps", "neuron-updates"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
"""What halting-aware placement minimises."""

ARITHMETICS = ("float", "fixed")
"""The networks that a bundle can hold."""
DTYPES = ("float64", "float32")
"""Precisions of a float network."""
RUNTIMES = ("in-process", "multiprocess")
"""Of the backend lava."""

DEFAULT_PROFILE = "loihi2"
"""The chip whose integers and cores a program is made for, unless another is named."""
PROFILE_IMAGES = 2000
"""Images of a profiling run, unless told: the choice of groups has settled by then."""
SCALES_FILE = "quantisation.json"
"""Of a checkpoint that was fine-tuned as integers."""
