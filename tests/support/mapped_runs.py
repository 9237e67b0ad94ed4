"""A run on four cores, two tokens apart, small enough to price by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from stas_neuro.activity import Activity, ActivityBuilder, Layer, step_labels
from stas_neuro.chips import load_profile
from stas_neuro.mapping import CoreLocation

CORES = (
    CoreLocation(x=0, y=0),
    CoreLocation(x=1, y=2),
    CoreLocation(x=0, y=1),
    CoreLocation(chip=1, x=0, y=0),
)
"""One for each of two tokens, one for the halting unit, and one on another chip for the head."""
WHATIF = load_profile("loihi2-gated-whatif")
BARRIER_S = 1.78e-6
_HOP = WHATIF.energy["hop_x"]
_STEP = replace(WHATIF.time["barrier"], value=BARRIER_S, low=BARRIER_S, high=BARRIER_S, unit="s")
CHIP = replace(
    WHATIF,
    unavailable={
        name: why
        for name, why in WHATIF.unavailable.items()
        if not name.endswith(("barrier_multi_chip", "chip_crossing"))
    },
    energy={**WHATIF.energy, "chip_crossing": replace(_HOP, value=30.0, low=30.0, high=30.0)},
    time={**WHATIF.time, "barrier": _STEP, "barrier_multi_chip": _STEP},
)
"""With figures for what passes from chip to chip, so that it has a latency."""


def _pieces() -> list[Layer]:
    rows = []
    for core in (0, 1):
        fc = Layer(
            name=f"fc@{core}", kind="Linear", scope="block0", neurons=4, in_features=4, out_features=4,
            weights=16, placed_with=f"lif@{core}", stage=0, core=core, of="fc",
        )  # fmt: skip
        lif = Layer(
            name=f"lif@{core}", kind="LIF", scope="block0", neurons=4, out_features=4, stage=0, core=core,
            of="lif",
        )  # fmt: skip
        rows += [fc, lif]
    score = Layer(
        name="score@2", kind="HaltingScore", scope="halting", neurons=2, out_features=1, stage=1,
        placed_with="halt@2", core=2, of="score",
    )  # fmt: skip
    halt = Layer(
        name="halt@2", kind="HaltAccumulate", scope="halting", neurons=2, out_features=1, stage=1,
        feedback=True, core=2, of="halt",
    )  # fmt: skip
    head = Layer(
        name="head@3", kind="Linear", scope="head", neurons=3, out_features=3, phase="end", stage=0, core=3,
        of="head",
    )  # fmt: skip
    return [*rows, score, halt, head]


def run_on_cores(visits: Any, active: Any, *, sent: int = 2) -> Activity:
    """Two tokens, each on its core; `visits` and `active` (neurons) are (images, steps, tokens)."""
    visits, active = np.asarray(visits, np.bool_), np.asarray(active) * np.asarray(visits)
    images, steps, _ = visits.shape
    builder = ActivityBuilder(_pieces(), step_labels(steps), images, cores=CORES)
    for step in range(steps):
        label = f"step{step + 1}"
        for token in (0, 1):
            live = 4 * visits[:, step, token].astype(np.int64)
            builder.add("updates_active", f"lif@{token}", label, active[:, step, token])
            builder.add("updates_inactive", f"lif@{token}", label, live - active[:, step, token])
            builder.add("updates_gated", f"lif@{token}", label, 4 - live)
            for kind in ("synops", "synops_unary"):
                builder.add(kind, f"fc@{token}", label, 3 * live)
            for kind, each in (("spikes_out", 1), ("axon_messages", sent), ("hops_x", sent), ("hops_y", 1)):
                builder.add(kind, f"lif@{token}", label, each * active[:, step, token])
        builder.add("score_lookups", "score@2", label, visits[:, step].sum(axis=1))
    builder.add("synops", "head@3", "end", 6)
    builder.add("chip_crossings", "halt@2", "end", 2)
    builder.add("input_messages", "fc@0", "step1", 5)
    return builder.build(visits[:, :, None, :])


HALTED = run_on_cores([[[1, 1], [1, 0]]], [[[3, 2], [1, 0]]])
"""The second token halts after the first step."""
