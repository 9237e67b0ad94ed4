"""From graphs to the neutral network, its file, its schedule, and connected processes."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from support.ir_random import Recipe, build, images_for, recipes

from stas_neuro.data import normalise
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.assemble import assembled
from stas_neuro.exporters.lava.build import build_network
from stas_neuro.exporters.lava.failure import LavaFailure
from stas_neuro.exporters.lava.lava_api import ProcessServer
from stas_neuro.exporters.lava.network import Network
from stas_neuro.exporters.lava.processes import FIXED_POINT, FLOATING_POINT, PROCESSES, Run
from stas_neuro.exporters.lava.schedule import DELAYED, EACH, HELD, Schedule, Window
from stas_neuro.ir import NODE_TYPES, BatchNorm, HaltingScore, Node
from stas_neuro.ir.ops import FLOAT_OF

FOLDED = Recipe(norm=False)


def wire(network: Network, target: str, port: str) -> tuple[str, str, int]:
    found = [w for w in network.wires_into(target) if w.dst_port == port]
    assert len(found) == 1
    return found[0].src, found[0].src_port, found[0].delay


def test_every_node_becomes_one_layer_and_every_edge_one_wire() -> None:
    graph = build(FOLDED)
    network = build_network(graph)
    assert [layer.name for layer in network.layers] == [node.name for node in graph.nodes]
    for edge in graph.edges:
        assert wire(network, edge.dst, edge.dst_port) == (edge.src, edge.src_port, edge.delay)
    for node in graph.nodes:
        layer = network.layer(node.name)
        assert layer.op == type(node).__name__
        assert {port: value.shape for port, value in layer.outputs.items()} == {
            port: graph.types[node.name, port].shape for port in node.OUTPUTS
        }
        assert network.params_of(node.name).keys() == node.params(graph.time_steps).keys()


def test_scores_get_the_mask_of_their_accumulator() -> None:
    network = build_network(build(FOLDED))
    assert wire(network, "score0", "alive") == wire(network, "halt0", "alive") == ("halt1", "alive", 1)
    assert wire(network, "score1", "alive") == wire(network, "halt1", "alive") == ("halt0", "alive", 0)
    open_block = build_network(build(Recipe(norm=False, halting="rectangular")))
    assert not [w for w in open_block.wires_into("score0") if w.dst_port == "alive"]


def test_there_is_a_process_for_every_node_and_a_model_of_it_in_either_arithmetic() -> None:
    assert {op_of_type(node) for node in NODE_TYPES.values() if node is not BatchNorm} == set(PROCESSES)
    for models, tagged in ((FLOATING_POINT, "floating_pt"), (FIXED_POINT, "fixed_pt")):
        assert set(models) == set(PROCESSES.values())
        for process, model in models.items():
            assert model.implements_process is process and tagged in model.tags


def op_of_type(node: type[Node]) -> str:
    return FLOAT_OF.get(node, node).__name__


def test_traced_graphs_are_refused() -> None:
    with pytest.raises(InputError, match=r"is traced.*fold it first"):
        build_network(build(Recipe(norm=True)))


@settings(max_examples=25)
@given(recipe=recipes(norm=False))
def test_networks_survive_their_files(recipe: Recipe) -> None:
    network = build_network(build(recipe))
    with tempfile.TemporaryDirectory() as name:
        network.save(Path(name))
        again = Network.load(Path(name))
    for key in ("arithmetic", "time_steps", "layers", "wires", "classes", "mean", "std"):
        assert getattr(again, key) == getattr(network, key)
    assert again.tensors.keys() == network.tensors.keys()
    for key, array in network.tensors.items():
        assert array.dtype == again.tensors[key].dtype
        np.testing.assert_array_equal(array, again.tensors[key])


@pytest.mark.parametrize("change", [{"schema_version": 1}, {"format": "other"}])
def test_other_files_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    build_network(build(FOLDED)).save(tmp_path)
    path = tmp_path / "network.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(LavaFailure, match=r"network\.json: is .* this program reads version 3"):
        Network.load(tmp_path)
    path.write_text("{")
    with pytest.raises(LavaFailure, match=r"network\.json"):
        Network.load(tmp_path)


def test_images_are_normalised_as_the_graph_says() -> None:
    graph = build(FOLDED)
    raw = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 6), dtype=np.uint8)
    network = build_network(graph)
    np.testing.assert_array_equal(
        network.prepare(raw), normalise(raw, graph.preprocessing.mean, graph.preprocessing.std)
    )
    np.testing.assert_allclose(
        network.prepare(raw / 255.0),
        normalise(raw, graph.preprocessing.mean, graph.preprocessing.std),
        atol=1e-12,
    )


def test_one_step_networks_take_t_lava_steps_an_image() -> None:
    network = build_network(build(FOLDED))
    schedule = Schedule.of(network)
    assert schedule.period == 3
    assert schedule.windows["stem.conv0"] == schedule.windows["stem.tokens"] == Window(0, 1)
    assert schedule.windows["blocks.0.q"] == schedule.windows["readout"] == Window(0, 3)
    assert schedule.windows["head"] == schedule.windows["output"] == Window(2, 1)


def test_integrating_stems_put_t_steps_before() -> None:
    network = build_network(build(Recipe(norm=False, stem="max")))
    schedule = Schedule.of(network)
    assert schedule.period == 6
    assert schedule.windows["stem.conv0"] == Window(0, 1)  # of a still image: once, before the stem's steps
    assert schedule.windows["stem.lif0"] == schedule.windows["stem.integrate"] == Window(0, 3)
    assert schedule.windows["stem.conv1"] == schedule.windows["stem.tokens"] == Window(2, 1)
    assert schedule.windows["blocks.0.q"] == schedule.windows["readout"] == Window(3, 3)
    assert schedule.windows["head"] == Window(5, 1)


def test_how_messages_arrive() -> None:
    network = build_network(build(Recipe(norm=False, stem="max")))
    schedule = Schedule.of(network)

    def arrival(target: str, port: str) -> str:
        found = next(w for w in network.wires_into(target) if w.dst_port == port)
        return schedule.arrival(found, network.layer(found.src))

    assert arrival("stem.lif0", "x") == HELD
    assert arrival("stem.integrate", "x") == EACH
    assert arrival("stem.conv1", "x") == HELD
    assert arrival("blocks.0.gate", "x") == HELD
    assert arrival("blocks.0.gate", "mask") == DELAYED
    assert arrival("blocks.1.gate", "mask") == EACH
    assert arrival("head", "x") == HELD


def test_lava_keeps_nothing_of_a_run_that_is_over() -> None:
    graph = build(FOLDED)
    network = build_network(graph)
    server, handlers = list(ProcessServer().processes), list(logging.getLogger().handlers)
    with assembled(network, images_for(graph, 1), Run(images=1, period=3)) as assembly:
        assert len(assembly.processes) == len(graph.nodes)
        assert len(ProcessServer().processes) == len(server) + len(graph.nodes)
    assert ProcessServer().processes == server
    assert logging.getLogger().handlers == handlers


def test_score_masks_are_the_only_wires_beyond_the_graph() -> None:
    graph = build(FOLDED)
    extra = len(build_network(graph).wires) - len(graph.edges)
    assert extra == len(graph.of_type(HaltingScore))
