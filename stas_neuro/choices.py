"""Values of options and their descriptions. Help texts import them, so this module imports no library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Gating = Literal["silent", "none", "core", "power"]
GATINGS: Mapping[Gating, str] = {
    "silent": "halted tokens send nothing; their neurons are still stepped, as idle ones are: today's Loihi",
    "none": "halted tokens are computed and discarded",
    "core": "a core without work, or whose tokens at work have all halted, is not stepped",
    "power": "as core, and a core that is not stepped draws only the static power of a gated core",
}
"""Meaning of each gating mode, as shown in reports."""

Schedule = Literal["raster", "pipelined", "pipelined-stale"]
SCHEDULES: Mapping[Schedule, str] = {
    "raster": "one spiking stage of one model step at a time; neurons keep their state while others work",
    "pipelined": "model steps start one hardware step apart, with all stages at work",
    "pipelined-stale": "model steps start before the previous one has ended: halting decides with the scores "
    "that have arrived, as it did in this run",
}
"""Meaning of each schedule, as shown in reports."""

Mode = Literal["single", "stream"]
MODES: Mapping[Mode, str] = {
    "single": "one image at a time: its energy includes all static power until it is classified",
    "stream": "images follow each other as closely as the schedule allows, and share static power and steps",
}
"""Meaning of each mode, as shown in reports."""

Stem = Literal["shared", "apart", "folded"]
STEMS: Mapping[Stem, str] = {
    "shared": "the neurons of a stem that is computed once are stepped with all others",
    "apart": "the cores of a stem that is computed once are stepped only while it works or sends: they are a "
    "partition of the chip with steps of its own, which is assumed to be possible and to cost nothing",
    "folded": "neurons of a stem that is computed once are reused for blocks after its pass, and the weights "
    "of both are on the same cores; the cost of giving neurons new parameters is unpublished, and not priced",
}
"""Meaning of each place of a stem, as shown in reports."""

IdleUpdate = Literal["stepped", "skipped"]
IDLE_UPDATES: Mapping[IdleUpdate, str] = {
    "stepped": "a neuron is updated in every hardware step, also without work",
    "skipped": "a neuron without work (its layer waits, or its token has halted) is not updated",
}
"""What happens to a neuron without work, as shown in reports."""

HaltMode = Literal["raster", "rectangular", "block", "time", "image"]
HALT_MODES: tuple[HaltMode, ...] = get_args(HaltMode)
"""Halting policies."""
ACCUMULATIONS = (*HALT_MODES, "off")
"""Accumulation modes of halting scores; off: no halting."""

StemMode = Literal["one-step", "late-mean"]
STEM_MODES: Mapping[StemMode, str] = {
    "one-step": "the spikes of its first step, from rest",
    "late-mean": "the mean of its T steps, as a number",
}
"""What follows a stem that runs once for each image, by what it receives in every step."""

Strategy = Literal["channel-major", "token-major", "halting-aware"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
"""How placement divides a block among cores."""
Objective = Literal["core-steps", "neuron-updates"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
"""What halting-aware placement minimises in the choice of groups."""
Spread = Literal["cores", "energy", "latency"]
SPREADS: tuple[Spread, ...] = get_args(Spread)
"""What placement minimises in the choice of the number of cores."""

Goal = Literal["energy", "latency", "edp", "throughput"]
GOALS: Mapping[Goal, str] = {
    "energy": "energy of an image",
    "latency": "time of an image",
    "edp": "energy x time of an image",
    "throughput": "images per second",
}
"""What a search of deployments minimises, or for throughput maximises."""

ARITHMETICS = ("float", "fixed")
"""The networks of a bundle."""
DTYPES = ("float64", "float32")
"""Precisions of a float network."""
RUNTIMES = ("in-process", "multiprocess")
"""Runtimes of the backend lava."""
ACTIVITY_FORMS = ("json", "parquet")
"""Forms of the file of an activity record."""
GRANULARITIES = ("auto", "layer", "chip")
"""What a process of the backend lava computes: a node of the network, or what is on the chips."""

DEFAULT_PROFILE = "loihi2"
"""The default chip, for which integers are chosen and on which networks are placed."""
PROFILE_IMAGES = 2000
"""Default number of images of a profiling run: with more, the choice of groups no longer changes."""
SCALES_FILE = "quantisation.json"
"""Name of the file with the scales of a checkpoint that was fine-tuned to integers."""
