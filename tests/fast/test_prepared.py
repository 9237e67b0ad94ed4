"""What runs of a graph leave for the next: the same results, for this graph alone, within a limit."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.fixed_random import pixels_for
from support.ir_random import Recipe, build

from stas_neuro import load_profile, place, quantise
from stas_neuro.fast import prepared, run_fast
from stas_neuro.fast.products import eight_bit_pays
from stas_neuro.ir import Graph
from stas_neuro.placement import STRATEGIES
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace


def program(**changes: object) -> Graph:
    return quantise(build(Recipe(norm=False, **changes)))  # type: ignore[arg-type]


def same(found: Trace, wanted: Trace) -> bool:
    return np.array_equal(found.logits, wanted.logits) and found.activity == wanted.activity


def test_later_runs_use_what_earlier_ones_left_with_the_same_results() -> None:
    graph = program()
    pixels = pixels_for(graph, 7)
    run_fast(graph, pixels[:5])
    (left,) = prepared._kept(graph, eight_bit_pays())
    for images in (pixels[5:], pixels, pixels[:1]):
        assert same(run_fast(graph, images), run_reference(graph, images))
        assert prepared._kept(graph, eight_bit_pays()) == [left]


def test_two_graphs_and_two_kinds_of_products_are_kept_apart() -> None:
    first, second = program(), program(halting="off")
    wanted = [run_reference(graph, pixels_for(graph, 3)) for graph in (first, second)]
    for _ in range(2):
        for graph, result in zip((first, second), wanted, strict=True):
            for eight_bit in (False, True):
                found = run_fast(graph, pixels_for(graph, 3), eight_bit=eight_bit)
                assert same(found, result)
    assert all(len(prepared._kept(graph, kind)) == 1 for graph in (first, second) for kind in (False, True))


def test_runs_at_the_same_time_share_nothing() -> None:
    graph = program()
    pixels = pixels_for(graph, 6)
    wanted = run_reference(graph, pixels)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: run_fast(graph, pixels), range(6)))
    assert all(same(each, wanted) for each in found)
    assert len(prepared._kept(graph, eight_bit_pays())) == 1


def test_the_plan_of_the_counting_on_a_mapping_is_of_that_mapping() -> None:
    graph = program()
    pixels = pixels_for(graph, 3)
    mapping, other = (place(graph, load_profile("loihi1"), strategy=strategy) for strategy in STRATEGIES[:2])
    for placed in (mapping, None, other, mapping):
        for gating in ("silent", "core"):
            for _ in range(2):
                found = run_fast(graph, pixels, mapping=placed, gating=gating)
                assert same(found, run_reference(graph, pixels, mapping=placed, gating=gating))
    (left,) = prepared._kept(graph, eight_bit_pays())
    assert {id(of) for of, _ in left._counting.values()} == {id(None), id(mapping)}


def test_what_is_older_than_the_limit_allows_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, other = program(), program(halting="off")
    run_fast(graph, pixels_for(graph, 2))
    (left,) = prepared._kept(graph, eight_bit_pays())
    assert left.size > 0
    run_fast(other, pixels_for(other, 2))
    assert prepared._kept(graph, eight_bit_pays()) == [left]
    (of_other,) = prepared._kept(other, eight_bit_pays())
    monkeypatch.setattr(prepared, "LIMIT", of_other.size)
    run_fast(other, pixels_for(other, 2))
    assert prepared._kept(graph, eight_bit_pays()) == []
    assert prepared._kept(other, eight_bit_pays()) == [of_other]
    monkeypatch.setattr(prepared, "LIMIT", of_other.size - 1)
    run_fast(other, pixels_for(other, 2))
    assert prepared._kept(other, eight_bit_pays()) == []


@pytest.mark.parametrize("gating", ["none", "core"])
@pytest.mark.parametrize("placed", [False, True])
def test_what_is_kept_ends_with_its_graph(placed: bool, gating: str) -> None:
    graph = program()
    mapping = place(graph, load_profile("loihi1")) if placed else None
    run_fast(graph, pixels_for(graph, 2), mapping=mapping, gating=gating)
    gone = weakref.ref(prepared._kept(graph, eight_bit_pays())[0])
    gc.disable()  # it ends at once: nothing in it holds the graph
    try:
        del graph
        assert gone() is None
    finally:
        gc.enable()
