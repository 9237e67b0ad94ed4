"""A run small enough to price by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stas_neuro.activity import Activity, ActivityBuilder, Layer, step_labels
from stas_neuro.chips import Profile
from stas_neuro.energy import Estimate, EventCost

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


def intervals(document: Any) -> Iterator[dict[str, float]]:
    if isinstance(document, dict) and set(document) == {"value", "low", "high"}:
        yield document
    elif isinstance(document, dict | list | tuple):
        for item in document.values() if isinstance(document, dict) else document:
            yield from intervals(item)


def check_conservation(cost: Estimate) -> None:
    for parts in (cost.events, cost.layers, cost.steps, cost.cores_breakdown, cost.tokens):
        if not parts:
            continue  # no cores or no visits
        whole = cost.dynamic_energy_j
        for corner in ("value", "low", "high"):
            summed = sum(
                getattr(part.energy_j if isinstance(part, EventCost) else part.dynamic_energy_j, corner)
                for part in parts
            )
            assert summed == pytest.approx(getattr(whole, corner), rel=1e-9)
    for corner in ("value", "low", "high"):
        if cost.energy_j is not None:
            pieces = (cost.dynamic_energy_j, cost.static_energy_j, cost.management_energy_j)
            whole_j = sum(getattr(piece, corner) for piece in pieces if piece is not None)
            assert whole_j == pytest.approx(getattr(cost.energy_j, corner), rel=1e-9)
        if cost.latency_s is not None:
            steps = sum(getattr(step.latency_s, corner) for step in cost.steps)
            assert steps == pytest.approx(getattr(cost.latency_s, corner), rel=1e-9)
    if cost.core_steps is not None:
        assert cost.core_steps_gated is not None and cost.cores is not None and cost.hardware_steps_per_image
        every = cost.cores * cost.hardware_steps_per_image
        assert cost.core_steps + cost.core_steps_gated == pytest.approx(every)
        by_core = sum(core.core_steps or 0 for core in cost.cores_breakdown)
        assert by_core == pytest.approx(cost.core_steps)
    if cost.hardware_steps is not None:
        assert sum(step.hardware_steps or 0 for step in cost.steps) == cost.hardware_steps
    document = cost.to_json()
    assert json.loads(json.dumps(document)) == json.loads(json.dumps(document, allow_nan=False))
    found = list(intervals(document))
    assert len(found) > 10
    for interval in found:
        assert 0 <= interval["low"] <= interval["value"] * (1 + 1e-12)
        assert interval["value"] <= interval["high"] * (1 + 1e-12)
