"""Synaptic currents that outlast a step, and membranes that clip."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.ir_random import Recipe, build, images_for

from stas_neuro.ir import (
    LIF,
    STATE_LIMIT,
    Conv2d,
    Edge,
    FixedLIF,
    FixedSynapticCurrent,
    Graph,
    IRError,
    Linear,
    Phase,
    Range,
    SynapticCurrent,
    current_range,
    membrane_range,
)
from stas_neuro.passes import Quantise
from stas_neuro.reference import run_reference


def test_a_current_decays_and_its_bias_does_not_add_up() -> None:
    graph = build(Recipe(norm=False, halting="off", stem="sps", outlast=True, tau=3.0, time_steps=4))
    assert isinstance(graph.node("stem.current"), SynapticCurrent)
    seen: list[Any] = []
    given: list[Any] = []

    def observe(node: Any, inputs: Any) -> None:
        if node.name == "stem.current":
            given.append(inputs["x"][0])
        if node.name == "stem.lif1":
            seen.append(inputs["x"][0])

    run_reference(graph, images_for(graph, 1), observe=observe)
    bias = graph.tensors["stem.current/bias"][:, None, None]
    u = np.zeros_like(given[0])
    for x, y in zip(given, seen, strict=True):
        u = u * (1 - 1 / 3) + x
        np.testing.assert_allclose(y, u + bias, rtol=1e-12, atol=1e-12)
    assert len(seen) == 4


def test_currents_of_halted_tokens_are_refused() -> None:
    graph = build(Recipe(norm=False, halting="raster"))
    gated = next(lif for lif in graph.of_type(LIF) if "alive" in graph.inputs(lif))
    edge = graph.inputs(gated)["x"]
    assert isinstance(graph.node(edge.src), Linear | Conv2d)
    features = graph.types[edge.src, "y"].shape[1]
    current = SynapticCurrent(
        name="slow", phase=Phase.STEP, scope=gated.scope, tau=2.0, features=features, bias=False
    )
    edges = [each for each in graph.edges if each != edge]
    edges += [replace(edge, dst="slow"), Edge("slow", "y", gated.name, "x")]
    with pytest.raises(IRError, match=f"slow: its current outlasts a step, and {gated.name} is gated"):
        replace(graph, nodes=(*graph.nodes, current), edges=tuple(edges))


def test_ranges_hold_what_steps_can_reach() -> None:
    rng = np.random.default_rng(0)
    base: dict[str, Any] = {"name": "u", "phase": Phase.STEP, "scope": "block0", "tau": 2.0}
    for du in (0, 100, 2047, 4000, 4095):
        node = FixedSynapticCurrent(**base, features=1, bias=False, du=du, bias_exp=0)
        for low, high in ((-700, 300), (0, 90), (-5, 0)):
            bound = current_range(node, Range(low, high), 12)
            for inputs in ([high] * 12, [low] * 12, rng.integers(low, high + 1, 12).tolist()):
                u = 0
                for x in inputs:
                    kept = (abs(u) * (4095 - du)) >> 12
                    u = (kept if u > 0 else -kept) + x
                    assert bound.low <= u <= bound.high
            assert bound.high == 0 or current_range(node, Range(low, high), 1).high == high


def test_a_membrane_that_clips_has_the_range_of_24_bits() -> None:
    lif = FixedLIF(
        name="lif", phase=Phase.STEP, scope="block0", tau=4096.0, threshold=1.0, fire=">", dv=1, vth=9
    )
    far = Range(-STATE_LIMIT // 2, STATE_LIMIT)
    assert membrane_range(lif, far, 8).magnitude > STATE_LIMIT
    assert membrane_range(replace(lif, clips=True), far, 8) == Range(-STATE_LIMIT, STATE_LIMIT)
    assert "clips" not in lif.written() and replace(lif, clips=True).written()["clips"] is True


@pytest.mark.parametrize("tau", [1.0, 1.5, 3.0])
def test_integers_of_currents_follow_real_ones(tau: float) -> None:
    graph = build(Recipe(norm=False, halting="off", stem="sps", outlast=True, tau=tau, time_steps=4, seed=1))
    graph = replace(
        graph, nodes=tuple(replace(n, fire=">") if isinstance(n, LIF) else n for n in graph.nodes)
    )
    fixed: Graph = Quantise()(graph)
    made = fixed.of_type(FixedSynapticCurrent)
    assert [current.du for current in made] == [max(round(4096 / tau) - 1, 0)]
    pixels = np.random.default_rng(0).integers(0, 256, (6, *graph.image_shape))
    mean, std = (
        np.array(values)[:, None, None] for values in (graph.preprocessing.mean, graph.preprocessing.std)
    )
    real = run_reference(graph, (pixels / 255 - mean) / std, record_spikes=True).spikes["stem.lif1"]
    ours = run_reference(fixed, pixels, record_spikes=True).spikes["stem.lif1"]
    assert 0.01 < real.mean() < 0.99 and (ours == real).mean() > 0.97
