"""A program divided by chip, against the plain reference; and what the chips tell each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chips_in_turn import on_chips, run_in_turn, same
from support.fixed_random import fixed_graphs, pixels_for, quantised_at_random
from support.imported_network import imported_program
from support.ir_random import HALTING, STEMS, Recipe, build
from support.random_mappings import mappings

import stas_neuro
from stas_neuro.analysis import neuron_layers
from stas_neuro.assets import IMAGES, asset
from stas_neuro.chips import load_profile
from stas_neuro.fast import ChipsProgram, chips, divided, plan, products, run_fast
from stas_neuro.fast.buffers import Buffers
from stas_neuro.fast.parts import parts_of
from stas_neuro.ir import Array, Graph
from stas_neuro.mapping import Mapping
from stas_neuro.mapping.chips import divide
from stas_neuro.reference import run_reference

RECORD: dict[str, Any] = {"record_spikes": True, "record_states": True}


def compare(graph: Graph, images: Array, mapping: Mapping, gating: str = "silent", batch: int = 2) -> None:
    """Compare runs with records of spikes and states, without, and with 8-bit products."""
    options: dict[str, Any] = {"mapping": mapping, "gating": gating}
    plain = run_reference(graph, images, **options, **RECORD)
    same(run_in_turn(ChipsProgram(graph=graph, eight_bit=False, **options, **RECORD), images, batch), plain)
    bare = run_reference(graph, images, **options)
    same(run_in_turn(ChipsProgram(graph=graph, eight_bit=True, **options), images, batch), bare)


@settings(max_examples=25)
@given(st.data())
def test_random_integers_on_random_chips(data: st.DataObject) -> None:
    graph = data.draw(fixed_graphs())
    mapping = data.draw(mappings(graph, chips=data.draw(st.integers(1, 4))))
    compare(graph, pixels_for(graph, 3, 1), mapping, data.draw(st.sampled_from(("silent", "core", "power"))))


@pytest.mark.parametrize("halting", HALTING)
@pytest.mark.parametrize("stem", STEMS)
def test_every_way_to_halt_and_every_stem(halting: str, stem: str) -> None:
    sizes = {"blocks": 2, "height": 4, "width": 3, "time_steps": 3}
    recipe = Recipe(norm=False, halting=halting, stem=stem, events=stem == "one-step", **sizes)
    graph = quantised_at_random(build(recipe), 1)
    mapping = stas_neuro.place(graph, load_profile("loihi2"), strategy="token-major", groups=3)
    compare(graph, pixels_for(graph, 3, 1), on_chips(mapping, 3), "core")


@pytest.mark.parametrize("model", ["fashion-spikformer", "fashion-spikingformer", "fashion-t1"])
@pytest.mark.parametrize("strategy", ["channel-major", "token-major"])
def test_shipped_networks(model: str, strategy: str) -> None:
    graph = stas_neuro.quantise(stas_neuro.fold(str(asset(f"models/{model}"))))
    mapping = stas_neuro.place(graph, load_profile("loihi2"), strategy=strategy)
    images = stas_neuro.load_data(str(asset(IMAGES))).images[:5].astype(np.int64)
    compare(graph, images, on_chips(mapping, 3), "core", batch=4)


@settings(max_examples=5)
@given(st.data())
def test_an_imported_network(data: st.DataObject) -> None:
    # The reference computes its layer with groups, on each chip that has some of it.
    graph, images = imported_program(3)
    compare(graph, images, data.draw(mappings(graph, chips=3)))


@settings(max_examples=15)
@given(st.data())
def test_only_values_that_are_sent_matter(data: st.DataObject) -> None:
    """What a chip neither computes nor receives is 0 there; if it were 1, nothing would change."""
    graph = data.draw(fixed_graphs())
    mapping = data.draw(mappings(graph, chips=3))
    images = pixels_for(graph, 2, 1)
    plain = run_reference(graph, images, mapping=mapping, **RECORD)
    share_table, part_table = chips.ChipExecution._table, divided.Whole.table

    def ones(run: Any, node: Any, port: str, step: int) -> Array:
        table = share_table(run, node, port, step)
        if node.name not in run._share.computes:
            table.fill(1)
        return table

    def part_ones(whole: Any, run: Any) -> Array:
        table = part_table(whole, run)
        mine = run._share.computes[whole.node.name]
        table.reshape(len(run.images), *mine.shape)[:, ~mine] = 1
        return table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chips.ChipExecution, "_table", ones)
        patch.setattr(divided.Whole, "table", part_ones)
        program = ChipsProgram(graph=graph, mapping=mapping, eight_bit=False, **RECORD)
        same(run_in_turn(program, images), plain)


@settings(max_examples=15)
@given(st.data())
def test_each_value_is_computed_on_its_chip_and_sent_where_it_is_needed(data: st.DataObject) -> None:
    graph = data.draw(fixed_graphs())
    mapping = data.draw(mappings(graph, chips=3))
    division = divide(graph, mapping)
    for layer, extent in neuron_layers(graph).items():
        held = [share.holds[layer].astype(int) for share in division.shares if layer in share.holds]
        assert (sum(held) == np.ones(extent)).all()
        for share in division.shares:
            mine = np.zeros(extent, np.bool_)
            for piece in mapping.of_layer(layer):
                if mapping.cores[piece.core].chip == share.chip:
                    mine[list(piece.positions), slice(*piece.features)] = True
            np.testing.assert_array_equal(share.holds.get(layer, np.zeros(extent, np.bool_)), mine)
            assert layer in share.computes or not mine.any()
            if layer in share.computes:  # not more than its own
                np.testing.assert_array_equal(share.computes[layer], mine)
    for name, transfers in division.transfers.items():
        holds = {share.chip: share.holds.get(name) for share in division.shares}
        for transfer in transfers:
            held = holds[transfer.sender]
            assert held is not None and held[None][transfer.index].all()
            assert transfer.sender != transfer.receiver and transfer.shape == held[transfer.index[1:]].shape


@pytest.mark.parametrize("strategy", ["channel-major", "token-major"])
def test_products_are_divided(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All chips together multiply what the whole does: each has the rows and the outputs that it holds."""
    graph = stas_neuro.quantise(stas_neuro.fold(str(asset("models/fashion-spikformer"))))
    images = stas_neuro.load_data(str(asset(IMAGES))).images[:2].astype(np.int64)
    mapping = on_chips(stas_neuro.place(graph, load_profile("loihi2"), strategy=strategy), 3)
    multiplied = 0
    multiply = products.Floats.__call__

    def counted(product: products.Floats, x: Array, buffers: Buffers) -> Array:
        nonlocal multiplied
        multiplied += len(x) * product.weight.size
        return multiply(product, x, buffers)

    monkeypatch.setattr(products.Floats, "__call__", counted)
    monkeypatch.setattr(plan, "is_narrow", lambda *sizes: False)  # parts have windows of single positions
    run_fast(graph, images, eight_bit=False)
    whole, multiplied = multiplied, 0
    run_in_turn(ChipsProgram(graph=graph, mapping=mapping, eight_bit=False), images)
    assert multiplied == whole > 0


def test_parts_have_all_features_of_their_positions() -> None:
    wanted = np.zeros((5, 6), np.bool_)
    wanted[[0, 3], 1:4] = True
    wanted[2] = True
    wanted[4, [0, 1, 5]] = True
    found = {(tuple(part.positions), part.features.start, part.features.stop) for part in parts_of(wanted)}
    assert found == {((0, 3), 1, 4), ((2,), 0, 6), ((4,), 0, 2), ((4,), 5, 6)}
    assert parts_of(np.broadcast_to(True, (2, 3)))[0].shape == (2, 3)
