"""Records scaled to another width, against runs of networks that were really made wider."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from support.random_models import dyadic_model, images_for, random_config, random_model

from stas_neuro.activity import Activity
from stas_neuro.chips import load_profile
from stas_neuro.compiler import fold
from stas_neuro.energy import estimate, scale_width, width_of
from stas_neuro.errors import InputError
from stas_neuro.ir import Conv2d, Graph, Linear, Node
from stas_neuro.models.config import ATTENTIONS, STEMS
from stas_neuro.placement import place
from stas_neuro.reference import run_reference

_FEATURES = ("in_channels", "out_channels", "in_features", "out_features", "heads", "features")


def widened(graph: Graph, times: int) -> Graph:
    """Each feature `times` over, with weights divided by as much: all copies of a neuron spike alike."""
    weighted = [node.name for node in graph.nodes if isinstance(node, Conv2d | Linear)]
    first, head = weighted[0], weighted[-1]

    def node_of(node: Node) -> Node:
        kept = {first: ("in_channels", "in_features"), head: ("out_features",)}.get(node.name, ())
        wider: dict[str, Any] = {
            each.name: getattr(node, each.name) * times
            for each in fields(node)
            if each.name in _FEATURES and each.name not in kept
        }
        return replace(node, **wider)

    def tensor_of(key: str, value: np.ndarray) -> np.ndarray:
        name, parameter = key.split("/")
        if name not in weighted:
            return value
        out = 1 if name == head else times
        if parameter != "weight":
            return np.tile(value, (out, *[1] * (value.ndim - 1)))
        into = 1 if name == first else times
        return np.tile(value, (out, into, *[1] * (value.ndim - 2))) / into

    return replace(
        graph,
        nodes=tuple(map(node_of, graph.nodes)),
        tensors={key: tensor_of(key, value) for key, value in graph.tensors.items()},
    )


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("stem", STEMS)
def test_a_scaled_record_is_that_of_a_wider_network(stem: str, attention: str) -> None:
    choice = {"stem": stem, "attention": attention, "accumulate": "raster"}
    config = random_config(choice, 3)
    graph = fold(dyadic_model(config, 3))
    images = np.round(images_for(config, 3, 3) * 4) / 4  # sums are exact in any order
    small, wide = (run_reference(each, images) for each in (graph, widened(graph, 2)))
    np.testing.assert_allclose(wide.logits, small.logits, rtol=1e-12)
    assert small.visits.mean() > 0
    assert small.activity.total("synops") > 0
    scaled = scale_width(small.activity, 2 * config.dim)
    assert scaled == wide.activity
    assert width_of(scaled) == 2 * config.dim


@pytest.fixture(scope="module")
def record() -> Activity:
    config = random_config({"stem": "sps", "accumulate": "raster"}, 5).replace(dim=16, heads=2)
    return run_reference(fold(random_model(config, 5)), images_for(config, 2, 5)).activity


def test_what_does_not_depend_on_rates_is_that_of_any_model_of_the_width(record: Activity) -> None:
    config = random_config({"stem": "sps", "accumulate": "raster"}, 5).replace(dim=40, heads=5)
    other = run_reference(fold(random_model(config, 6)), images_for(config, 2, 5)).activity
    scaled = scale_width(record, 40)
    assert scaled.layers == other.layers
    updates = ("updates_active", "updates_inactive", "updates_gated")

    def all_updates(run: Activity) -> np.ndarray:
        return np.asarray(sum(run.counts[kind] for kind in updates))

    halts = [layer.scope == "halting" for layer in record.layers]
    np.testing.assert_allclose(
        all_updates(scaled)[:, np.invert(halts)], all_updates(other)[:, np.invert(halts)], atol=1
    )


def test_the_same_width_changes_nothing(record: Activity) -> None:
    assert scale_width(record, 16) == record
    assert estimate(scale_width(record, 16), "loihi2") == estimate(record, "loihi2")


def test_a_wider_network_costs_more(record: Activity) -> None:
    costs = [estimate(scale_width(record, width), "loihi2").energy_j for width in (16, 32, 64)]
    values = [cost.value for cost in costs if cost is not None]
    assert len(values) == 3 and values == sorted(values)


def test_what_cannot_be_scaled_is_refused(record: Activity) -> None:
    with pytest.raises(InputError, match=r"stem.conv0 has 32 neurons, and would have 34.00|would have"):
        scale_width(record, 17)
    with pytest.raises(InputError, match="width is 0"):
        scale_width(record, 0)
    config = random_config({"stem": "sps"}, 5)
    graph = fold(random_model(config, 5))
    mapping = place(graph, load_profile("loihi2"))
    placed = run_reference(graph, images_for(config, 1, 5), mapping=mapping).activity
    with pytest.raises(InputError, match="the run is on cores"):
        scale_width(placed, 32)
    last = replace(record.layers[-1], in_features=0)
    with pytest.raises(InputError, match="the width is unknown"):
        scale_width(replace(record, layers=(*record.layers[:-1], last)), 32)
