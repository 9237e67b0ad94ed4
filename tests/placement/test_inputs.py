"""Values that regions receive, as products of sets, against the masks of `Reach`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ir_random import Recipe, build

from stas_neuro.analysis import neuron_layers
from stas_neuro.ir.ops.base import Wanted
from stas_neuro.mapping.reach import Reach
from stas_neuro.mapping.routes import merged
from stas_neuro.passes import DelayDecisions
from stas_neuro.placement.inputs import Inputs, Values, count, difference, elements, index_of, union

RECIPES: tuple[dict[str, Any], ...] = (
    {},
    {"stem": "sps", "groups": 2, "dilated": True, "membrane": True},
    {"sdsa": True, "mixed": True},
    {"qk": True, "halting": "block", "iand": True, "oblong": True},
    {"halting": "off", "shrink": "pool", "head": "mean"},
    {"form": "(QK^T)V", "halting": "image", "events": True},
)


def mask(values: Values, shape: tuple[int, int]) -> Wanted:
    made = np.zeros(shape, np.bool_)
    for positions, features in values:
        product = np.ix_(index_of(positions), index_of(features))
        assert not made[product].any()  # products are disjoint
        made[product] = True
    return made


@pytest.mark.parametrize("recipe", RECIPES)
def test_regions_receive_what_a_traversal_finds(recipe: dict[str, Any]) -> None:
    graph = build(Recipe(seed=3, norm=False, **recipe))
    if "sdsa" in recipe:
        graph = DelayDecisions(2)(graph)  # each accumulator sends its own score
    rng, inputs, reach = np.random.default_rng(3), Inputs(graph), Reach(graph)
    for layer, (positions, features) in neuron_layers(graph).items():
        for _ in range(6):
            first, end = sorted(rng.choice(features + 1, 2, replace=False).tolist())
            some = np.flatnonzero(rng.random(positions) < rng.random()).tolist() or [0]
            needs = merged(reach.of(layer, tuple(some), (first, end)))
            wanted = {
                source: values
                for source, values in needs.items()
                if values.any() and not graph.node(source).off_core
            }
            found = inputs.of(layer, elements(some), elements(range(first, end)))
            assert found.keys() == wanted.keys()
            for source, values in found.items():
                assert (mask(values, wanted[source].shape) == wanted[source]).all()
                assert count(values) == wanted[source].sum()


def test_sets_are_those_of_their_elements() -> None:
    assert elements(range(2, 5)) == elements([3, 2, 4]) == 0b11100
    assert index_of(0b1011).tolist() == [0, 1, 3] and index_of(0).tolist() == []


PRODUCTS = st.lists(st.tuples(st.integers(1, 31), st.integers(1, 15)), max_size=4)


@given(PRODUCTS, PRODUCTS)
def test_unions_and_differences_are_those_of_masks(
    first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    a: Values = ()
    b: Values = ()
    for each in first:
        a = union(a, (each,))
    for each in second:
        b = union(b, (each,))
    of_a, of_b = mask(a, (5, 4)), mask(b, (5, 4))
    assert all(of_a[np.ix_(index_of(p), index_of(f))].all() for p, f in first)
    assert (mask(union(a, b), (5, 4)) == of_a | of_b).all()
    assert (mask(difference(a, b), (5, 4)) == of_a & ~of_b).all()
    assert count(union(a, b)) == (of_a | of_b).sum()
