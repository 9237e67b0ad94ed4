"""A run small enough to price by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from stas_neuro.activity import Activity, ActivityBuilder, Layer, step_labels
from stas_neuro.energy import Profile

LAYERS = (
    Layer(
        name="fc", kind="Linear", scope="block0", neurons=8, in_features=4, out_features=4, weights=16,
        placed_with="lif", stage=0,
    ),
    Layer(name="lif", kind="LIF", scope="block0", neurons=8, out_features=4, stage=0),
    Layer(
        name="score", kind="HaltingScore", scope="halting", neurons=2, out_features=1, stage=1,
        placed_with="halt",
    ),
    Layer(
        name="halt", kind="HaltAccumulate", scope="halting", neurons=2, out_features=1, stage=1, feedback=True
    ),
)  # fmt: skip


def run(*, halting: bool = True) -> Activity:
    """Two tokens, one block, two steps; the second token halts after the first step."""
    layers = LAYERS if halting else LAYERS[:2]
    builder = ActivityBuilder(layers, step_labels(2), images=1)
    table = {
        "step1": {
            "synops": 16,
            "synops_unary": 24,
            "updates_active": 5,
            "updates_inactive": 3,
            "spikes_out": 3,
        },
        "step2": {
            "synops": 8,
            "synops_unary": 8,
            "updates_active": 2,
            "updates_inactive": 2,
            "spikes_out": 1,
        },
    }
    if halting:
        table["step2"]["updates_gated"] = 4
        for step, lookups in (("step1", 2), ("step2", 1)):
            builder.add("score_lookups", "score", step, lookups)
    else:
        table["step2"] |= {"synops": 12, "synops_unary": 12, "updates_active": 6}
    for step, counts in table.items():
        for kind, count in counts.items():
            builder.add(kind, "fc" if kind.startswith("synops") else "lif", step, count)
    visits = np.ones((1, 2, 1, 2), np.bool_)
    visits[0, 1, 0, 1] = not halting
    return builder.build(visits)


def without(profile: Profile, entry: str) -> Profile:
    section, name = entry.split(".")
    rest = {key: value for key, value in getattr(profile, section).items() if key != name}
    changes: dict[str, Any] = {section: rest}
    return replace(profile, **changes)
