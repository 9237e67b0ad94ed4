"""The floats that the integer reference computes in are exact: the bounds they rest on hold, and matter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fixed_random import fixed_graphs, pixels_for, quantised_at_random
from support.ir_random import Recipe, build

from stas_neuro.ir import (
    Array,
    Edge,
    FixedAdd,
    FixedInput,
    FixedIntegrate,
    FixedLIF,
    FixedLinear,
    FixedOutput,
    FixedReadout,
    Graph,
    Node,
    Phase,
    Preprocessing,
    Range,
    Stage,
    Tokens,
    membrane_range,
)
from stas_neuro.reference import interpreter, run_reference
from stas_neuro.reference.exact import exact_dtype


@settings(max_examples=40)
@given(fixed_graphs(), st.integers(0, 99))
def test_values_keep_the_bounds_that_exactness_rests_on(graph: Graph, seed: int):
    def observe(node: Node, inputs: Mapping[str, Array]) -> None:
        for port, value in inputs.items():
            kind = graph.source_type(graph.inputs(node)[port])
            assert kind.bound is not None
            # Before the first step a mask is open and a total is 0: `neutral`.
            assert kind.low <= value.min() <= value.max() <= max(kind.bound, int(port.startswith("alive")))
            assert (value == np.rint(value)).all()

    trace = run_reference(graph, pixels_for(graph, 2, seed), record_states=True, observe=observe)
    for node in graph.of_type(FixedLIF):
        x = graph.source_type(graph.inputs(node)["x"])
        assert x.bound is not None
        steps = 1 if node.phase == Phase.ONCE else graph.time_steps
        low, high = membrane_range(node, Range(x.low, x.bound), steps)
        assert low <= trace.states[node.name].min() <= trace.states[node.name].max() <= high


@pytest.mark.parametrize("halting", ["raster", "rectangular"])
def test_a_total_is_bounded_by_the_scores_of_all_blocks(halting: str):
    graph = quantised_at_random(build(Recipe(norm=False, halting=halting)), 0)
    silent = np.zeros_like(graph.tensors["score1/table"])
    graph = dataclasses.replace(graph, tensors={**graph.tensors, "score1/table": silent})
    assert graph.tensors["score0/table"].any()
    assert graph.types["halt1", "total"].bound == graph.types["halt0", "total"].bound


def wide(features: int, weight: Array, weight_exp: int) -> Graph:
    """One step of one Linear, which takes pixels and gives the logits, halved."""
    where: Any = {"phase": Phase.ONCE, "scope": "stem"}
    end: Any = {"phase": Phase.END, "scope": "head"}
    step: Any = {"phase": Phase.STEP, "scope": "block0"}
    outputs = len(weight)
    nodes: tuple[Node, ...] = (
        FixedInput(name="input", shape=(features, 1, 1), encoding="graded", **where),
        Tokens(name="tokens", **where),
        FixedLinear(
            name="wide", in_features=features, out_features=outputs, bias=True,
            weight_bits=9, bias_exp=0, **step,
        ),
        FixedReadout(
            name="readout", mode="last-state", blocks=1,
            z_shift=0, z_limit=2**23, divide_bits=0, y_shift=0, **end,
        ),
        FixedOutput(name="output", unit=0.5, **end),
    )  # fmt: skip
    return Graph(
        stage=Stage.QUANTISED,
        time_steps=1,
        nodes=nodes,
        edges=(
            Edge("input", "y", "tokens", "x"),
            Edge("tokens", "y", "wide", "x"),
            Edge("wide", "y", "readout", "z0"),
            Edge("readout", "y", "output", "x"),
        ),
        tensors={
            "wide/weight": weight.astype(np.int16),
            "wide/weight_exp": np.full(outputs, weight_exp, np.int16),
            "wide/bias": np.zeros(outputs, np.int16),
        },
        classes=tuple(f"class {index}" for index in range(outputs)),
        preprocessing=Preprocessing((0.0,) * features, (1.0,) * features),
    )


@pytest.mark.parametrize(
    ("features", "dtype"), [(256, np.float32), (257, np.float32), (258, np.float64), (500, np.float64)]
)
def test_single_precision_only_where_magnitudes_add_up_to_less_than_it_holds(features: int, dtype: Any):
    # 257 * 255 * 256 < 2^24 < 258 * 255 * 256; what is below the smallest bit of the result does not matter.
    graph = wide(features, np.full((1, features), -256), -8)
    assert exact_dtype(graph, graph.node("wide")) is dtype
    assert all(exact_dtype(graph, node) is np.float32 for node in graph.nodes if node.name != "wide")


def test_wide_layers_stay_exact(monkeypatch: pytest.MonkeyPatch):
    features, rng = 400, np.random.default_rng(0)
    graph = wide(features, np.full((1, features), 255), -8)
    images = rng.integers(230, 250, (40, features))
    # 255 times a sum of 1 modulo 256 is one below a multiple of 256, and beyond 2^24: half of the roundings
    # of single precision reach what `>> 8` drops.
    images[:, 0] = (1 - images[:, 1:].sum(axis=1)) % 256
    totals = [255 * sum(image) for image in images.tolist()]
    assert all(total > 2**24 and total % 256 == 255 for total in totals)
    truth = [[0.5 * ((total >> 8) << 6)] for total in totals]
    images = images.reshape(-1, features, 1, 1)
    assert run_reference(graph, images).logits.tolist() == truth
    monkeypatch.setattr(interpreter, "exact_dtype", lambda graph, node: np.float32)
    assert run_reference(graph, images).logits.tolist() != truth


def test_double_precision_for_decays_of_many_bits():
    graph = quantised_at_random(build(Recipe(norm=False, halting="off")), 0)
    edge = graph.inputs("blocks.0.q_lif")["x"]
    size = Range(graph.source_type(edge).low, graph.source_type(edge).bound or 0).magnitude
    assert 2**13 < size < 2**22
    for dv, dtype in ((0, np.float32), (2048, np.float32), (4095, np.float32), (3, np.float64)):
        lif = graph.node("blocks.0.q_lif")
        nodes = tuple(
            dataclasses.replace(node, dv=dv, vth=0) if node is lif else node for node in graph.nodes
        )
        changed = dataclasses.replace(graph, nodes=nodes)
        assert exact_dtype(changed, changed.node(lif.name)) is dtype


def test_double_precision_for_weighted_sums_of_many_bits():
    graph = quantised_at_random(build(Recipe(norm=False, membrane=True)), 0)
    add = graph.of_type(FixedAdd)[-1]
    a = graph.source_type(graph.inputs(add)["a"]).bound or 0
    assert 2**16 < a < 2**22
    assert exact_dtype(graph, add) is np.float32
    assert exact_dtype(graph, dataclasses.replace(add, a_weight=256)) is np.float64

    graph = quantised_at_random(build(Recipe(norm=False, events=True, stem="one-step", time_steps=3)), 0)
    (frames,) = graph.of_type(FixedIntegrate)
    learned = dataclasses.replace(frames, mode="learned", shift=15)
    nodes = tuple(learned if node is frames else node for node in graph.nodes)
    # 3 * 255 * 32767 > 2^24 > 3 * 255 * 20000, whatever is shifted away behind it.
    for weight, dtype in ((20000, np.float32), (-32767, np.float64)):
        tensors = {**graph.tensors, f"{frames.name}/weights": np.full(3, weight, np.int16)}
        changed = dataclasses.replace(graph, nodes=nodes, tensors=tensors)
        assert exact_dtype(changed, learned) is dtype
