"""A program divided by chip, against the plain reference; and what the chips tell each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chips_in_turn import all_on_both, on_chips, run_in_turn
from support.fixed_random import fixed_graphs, pixels_for, quantised_at_random
from support.foreign_neurons import MultiStepLIFNode
from support.imported_network import imported_program
from support.ir_random import HALTING, STEMS, Recipe, build
from support.random_mappings import mappings
from support.traces import same
from torch import nn

import stas_neuro
from stas_neuro.analysis import neuron_layers, spiking_stages
from stas_neuro.assets import IMAGES, asset
from stas_neuro.chips import load_profile
from stas_neuro.fast import ChipsProgram, FastProgram, divided, messages, plan, products, run_fast
from stas_neuro.fast.buffers import Buffers
from stas_neuro.fast.parts import rectangles
from stas_neuro.ir import Array, Edge, Graph
from stas_neuro.mapping import CoreLocation, Mapping, Piece
from stas_neuro.mapping.chips import divide
from stas_neuro.passes import FoldBatchNorm, Quantise
from stas_neuro.passes.late_decisions import DelayDecisions, schedule_decisions
from stas_neuro.reference import run_reference

RECORD: dict[str, Any] = {"record_spikes": True, "record_states": True}


def compare(graph: Graph, images: Array, mapping: Mapping, gating: str = "silent", batch: int = 2) -> None:
    """Compare runs with records of spikes and states, without, and with 8-bit products."""
    options: dict[str, Any] = {"mapping": mapping, "gating": gating}
    plain = run_reference(graph, images, **options, **RECORD)
    recorded = FastProgram(graph=graph, eight_bit=False, **options, **RECORD)
    same(run_in_turn(ChipsProgram(recorded), images, batch), plain)
    bare = run_reference(graph, images, **options)
    same(run_in_turn(ChipsProgram(FastProgram(graph=graph, eight_bit=True, **options)), images, batch), bare)


@settings(max_examples=25)
@given(st.data())
def test_random_integers_on_random_chips(data: st.DataObject) -> None:
    graph = data.draw(fixed_graphs())
    stages = spiking_stages(graph)
    if graph.halting in ("raster", "time") and stages > 1 and data.draw(st.booleans()):
        graph = DelayDecisions(data.draw(st.integers(1, stages - 1)))(graph)
    mapping = data.draw(mappings(graph, chips=data.draw(st.integers(1, 4))))
    numbers = data.draw(st.permutations((0, 3, 7, 12)))  # whatever the numbers of the chips
    mapping = replace(mapping, cores=tuple(replace(core, chip=numbers[core.chip]) for core in mapping.cores))
    gating = data.draw(st.sampled_from(("silent", "core", "power")))
    compare(graph, pixels_for(graph, 3, 1), mapping, gating, data.draw(st.integers(1, 3)))


@pytest.mark.parametrize("halting", HALTING)
@pytest.mark.parametrize("stem", STEMS)
def test_every_way_to_halt_and_every_stem(halting: str, stem: str) -> None:
    sizes = {"blocks": 2, "height": 4, "width": 3, "time_steps": 3}
    recipe = Recipe(norm=False, halting=halting, stem=stem, events=stem == "one-step", **sizes)
    graph = quantised_at_random(build(recipe), 1)
    mapping = stas_neuro.place(graph, load_profile("loihi2"), strategy="token-major", groups=3)
    compare(graph, pixels_for(graph, 3, 1), on_chips(mapping, 3), "core")


@pytest.mark.parametrize("halting", ["raster", "time"])
def test_late_decisions(halting: str) -> None:
    """Halting units send the scores of all steps, several numbers a token."""
    sizes = {"blocks": 2, "height": 4, "width": 3, "time_steps": 3}
    graph = quantised_at_random(build(Recipe(norm=False, halting=halting, **sizes)), 1)
    late = schedule_decisions(graph, "pipelined-stale")
    assert late.late
    compare(late, pixels_for(late, 3, 1), all_on_both(late), "core")


def test_logits_from_beside_the_cores() -> None:
    """A readout that divides is on no core; here nothing follows it."""
    recipe = Recipe(norm=False, classes=6, readout="rate", height=4, width=3)
    graph = quantised_at_random(build(recipe), 1)
    (source, output) = graph.inputs("head")["x"].src, graph.output.name
    headless = replace(
        graph,
        nodes=tuple(node for node in graph.nodes if node.name != "head"),
        edges=(
            *(edge for edge in graph.edges if "head" not in (edge.src, edge.dst)),
            Edge(source, "y", output, "x"),
        ),
        tensors={name: each for name, each in graph.tensors.items() if not name.startswith("head/")},
    )
    assert headless.node(source).off_core
    compare(headless, pixels_for(headless, 3, 1), all_on_both(headless))


def test_windows_that_lie_in_the_padding() -> None:
    """A chip whose windows take nothing of another's layer is sent nothing of it."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (3, 2, 8, 8))
    module = stas_neuro.open_model(Padded().eval().double(), example=images.double() / 255)
    graph = Quantise(bits=8)(FoldBatchNorm()(module))
    pieces = []
    for layer, (positions, features) in neuron_layers(graph).items():
        apart = (1,) if positions == 25 else ()
        for core, some in enumerate((tuple(at for at in range(positions) if at not in apart), apart)):
            if some:
                pieces.append(Piece(layer=layer, core=core, positions=some, features=(0, features)))
    cores = CoreLocation(chip=0), CoreLocation(chip=7)
    mapping = Mapping(profile="loihi2", strategy="token-major", cores=cores, pieces=tuple(pieces))
    assert "l0" not in divide(graph, mapping).transfers
    compare(graph, images.numpy().astype(np.int64), mapping)


class Padded(nn.Module):
    """Its second layer has windows that are all padding, as the first gives a single position."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide, self.head = nn.Conv2d(2, 6, 8), nn.Conv2d(6, 4, 3, 1, 4, 2), nn.Linear(4, 4)
        self.l0, self.l1 = (MultiStepLIFNode(tau=2.0, v_threshold=0.1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unsqueeze(0).repeat(3, 1, 1, 1, 1)
        for layer, neurons in ((self.stem, self.l0), (self.wide, self.l1)):
            x = neurons(layer(x.flatten(0, 1)).unflatten(0, (3, -1)))
        return self.head(x.flatten(3).mean(3)).mean(0)


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
    nothing, empty = messages.Port.nothing, divided.LayerTable.empty

    def ones(port: messages.Port, run: Any, step: int) -> Array:
        table = nothing(port, run, step)
        table.fill(1)
        return table

    def part_ones(layer: divided.LayerTable, run: Any) -> Array:
        table = empty(layer, run)
        mine = run._share.computes[layer.node.name]
        table.reshape(len(run.images), *mine.shape)[:, ~mine] = 1
        return table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages.Port, "nothing", ones)
        patch.setattr(divided.LayerTable, "empty", part_ones)
        program = FastProgram(graph=graph, mapping=mapping, eight_bit=False, **RECORD)
        same(run_in_turn(ChipsProgram(program), images), plain)


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
    run_in_turn(ChipsProgram(FastProgram(graph=graph, mapping=mapping, eight_bit=False)), images)
    assert multiplied == whole > 0


def test_parts_have_all_features_of_their_positions() -> None:
    wanted = np.zeros((5, 6), np.bool_)
    wanted[[0, 3], 1:4] = True
    wanted[2] = True
    wanted[4, [0, 1, 5]] = True
    found = {(tuple(part.positions), part.features.start, part.features.stop) for part in rectangles(wanted)}
    assert found == {((0, 3), 1, 4), ((2,), 0, 6), ((4,), 0, 2), ((4,), 5, 6)}
    assert rectangles(np.broadcast_to(True, (2, 3)))[0].shape == (2, 3)
